"""`sweeptrail tensorboard`: event files from folders and from tracking servers, and TensorBoard on them."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeptrail.errors import SettingsError
from sweeptrail.results.tensorboard import program
from tests.commands import environment, start, sweep
from tests.event_files import EVENTS, files_below, open_run, write_events
from tests.server import Server, process_group
from tests.waiting import PATIENCE, wait_for


@pytest.mark.parametrize("which", ["latest", "2026-01-31_12-00-00", "runs/2026-01-31_12-00-00", "parent", "c0ffee"])
def test_a_sweep_on_this_machine_is_found_by_what_it_is_called(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = local_sweep(tmp_path / "runs")
    assert program.find_source(which, Path("runs")) == program.Source(folder.name, folder, is_run=False)


@pytest.mark.parametrize("which", ["child", "runs/2026-01-31_12-00-00/1_lr=0.1"])
def test_a_run_on_this_machine_is_found_by_its_id_and_its_folder(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = local_sweep(tmp_path / "runs") / "1_lr=0.1"
    assert program.find_source(which, Path("runs")) == program.Source("1_lr=0.1", folder, is_run=True)


def local_sweep(runs_dir: Path) -> Path:
    """Make what a sweep leaves, as far as it matters here."""
    folder = runs_dir / "2026-01-31_12-00-00"
    write_events(folder / "1_lr=0.1" / EVENTS, 1)
    description = {"identity": "c0ffee", "created": 1.0, "tracking_uri": "", "settings": {"lr": "0.1"}, "runs": []}
    (folder / "sweep.json").write_text(json.dumps({"version": 1, **description}))
    (folder / "delivered.json").write_text(json.dumps({"http://somewhere": {"run_id": "parent"}}))
    (folder / "1_lr=0.1" / "delivered.json").write_text(json.dumps({"http://somewhere": {"run_id": "child"}}))
    return folder


def test_several_sources_are_shown_by_their_names_and_a_single_run_too(tmp_path: Path) -> None:
    runs = [write_events(tmp_path / sweep / "run" / EVENTS, 1).parent for sweep in ("a", "b")]
    sources = [program.Source("run", run, is_run=True) for run in runs]
    with program.one_folder(sources) as folder:
        assert {path.name: path.resolve() for path in folder.iterdir()} == {"run": runs[0], "run_2": runs[1]}
    with program.one_folder(sources[:1]) as folder:
        assert [path.name for path in folder.iterdir()] == ["run"]
    sweep = program.Source("a", tmp_path / "a", is_run=False)
    with program.one_folder([sweep]) as folder:
        assert folder == tmp_path / "a"


def test_a_port_that_is_taken_is_an_error_only_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^port: {port} of 127.0.0.1 cannot be used \(Address already in use"):
            program.choose_port("127.0.0.1", port)
        monkeypatch.setattr(program, "USUAL_PORT", port)
        assert program.choose_port("127.0.0.1", None) not in (port, 0)


def test_a_host_that_is_not_this_machine_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^host: 192.0.2.1 cannot be used .*; write 127.0.0.1$"):
        program.choose_port("192.0.2.1", None)


COMMAND = (sys.executable, "-m", "sweeptrail", "tensorboard")


def refused(*arguments: str, cwd: Path) -> str:
    """Return the one line of an error for which nothing was started."""
    finished = start(*COMMAND, *arguments, cwd=cwd, XDG_CACHE_HOME=str(cwd / "cache"))
    assert finished.returncode == 2
    assert finished.stdout == ""
    return finished.stderr


@pytest.mark.parametrize("which", ["latest", "nothing"])
def test_what_is_neither_here_nor_on_a_server_is_one_line_and_makes_no_database(tmp_path: Path, which: str) -> None:
    lines = refused(which, cwd=tmp_path).splitlines()
    assert [line.partition(", got")[0] for line in lines] == [
        "error: expected latest, the folder of a sweep, or the id of a run"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_was_not_tracked_is_one_line(tmp_path: Path) -> None:
    folder = local_sweep(tmp_path / "runs")
    (folder / "1_lr=0.1" / EVENTS).unlink()
    assert refused("latest", cwd=tmp_path).splitlines() == [
        f"error: {folder}: has no event files; expected a sweep or a run that was tracked, past its beginning"
    ]


@contextmanager
def shown(*arguments: str, cwd: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Start the command, and yield it with the address that it prints."""
    env = environment(XDG_CACHE_HOME=str(cwd / "cache"))
    with process_group(*COMMAND, *arguments, cwd=cwd, env=env) as process:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        assert line.startswith("TensorBoard:  http://127.0.0.1:"), process.stderr.read()
        yield process, line.split()[1]


def next_line(process: "subprocess.Popen[str]") -> str:
    """Return the next line that the command says to a person."""
    assert process.stderr
    return next(line for line in process.stderr if line.startswith("sweeptrail: "))


def scalars(address: str) -> dict[str, list[str]]:
    """Return the scalars of each run that TensorBoard shows."""
    with urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=PATIENCE) as reply:
        tags: dict[str, dict[str, Any]] = json.load(reply)
    return {run: sorted(found) for run, found in tags.items()}


def shows(address: str, run: str, steps: list[int]) -> bool:
    query = f"{address}data/plugin/scalars/scalars?tag=Loss&run={run}"
    try:
        with urllib.request.urlopen(query, timeout=PATIENCE) as reply:
            return [step for _, step, _ in json.load(reply)] == steps
    except urllib.error.HTTPError:  # it does not know the run yet
        return False


def test_a_sweep_on_a_server_of_which_only_the_uri_is_known_is_shown_and_fetched_once(
    tracking: Server, tmp_path: Path
) -> None:
    made, looked = tmp_path / "there", tmp_path / "here"
    made.mkdir()
    looked.mkdir()
    finished = sweep(
        "--tracking-uri", tracking.uri, cwd=made, lr="0.01", batch_size="50,100", shuffle="true", epochs="1"
    )
    assert finished.returncode == 0, finished.stderr
    [parent] = MlflowClient(tracking.uri).search_runs(["0"], f"tags.sweeptrail.folder LIKE '{made}/%'")
    arguments = (parent.info.run_id, "--tracking-uri", tracking.uri)
    names = {"1_lr=0.01,batch_size=50,shuffle=True", "2_lr=0.01,batch_size=100,shuffle=True"}
    with shown(*arguments, cwd=looked) as (process, address):
        wait_for(lambda: scalars(address).keys() == names)
        wait_for(lambda: all("Validation accuracy" in tags for tags in scalars(address).values()))
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "fetched 2 event files of 2 runs" in errors
    with pytest.raises(urllib.error.URLError):
        scalars(address)
    before = files_below(looked / "cache")
    with shown(*arguments, cwd=looked) as (process, _):
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "fetched 0 event files of 2 runs" in errors
    assert files_below(looked / "cache") == before


def test_open_runs_are_brought_up_to_date_also_when_the_server_was_away_meanwhile(
    tracking: Server, tmp_path: Path
) -> None:
    client = MlflowClient(tracking.uri)
    run = open_run(client, "run", open_run(client, "parent"))
    events = write_events(tmp_path / EVENTS, 1, 2)
    client.log_artifact(run, str(events), "tensorboard")
    with shown(run, "--tracking-uri", tracking.uri, "--refresh", "0.2", cwd=tmp_path) as (process, address):
        assert "fetched 1 event files of 1 runs" in next_line(process)
        wait_for(lambda: shows(address, "run", [1, 2]))
        client.log_artifact(run, str(write_events(events, 3)), "tensorboard")
        wait_for(lambda: shows(address, "run", [1, 2, 3]))
        tracking.kill()
        said = [next_line(process)]
        tracking.start()
        said.append(next_line(process))
        assert "what is new cannot be fetched at the moment and is tried again" in said[0]
        assert "what is new has been fetched" in said[1]
        client.log_artifact(run, str(write_events(events, 4)), "tensorboard")
        wait_for(lambda: shows(address, "run", [1, 2, 3, 4]))
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_run_without_event_files_on_the_server_is_one_line(tracking: Server, tmp_path: Path) -> None:
    client = MlflowClient(tracking.uri)
    run = open_run(client, "empty")
    client.set_terminated(run)
    *_, line = refused(run, "--tracking-uri", tracking.uri, cwd=tmp_path).splitlines()
    assert line == f"error: {run}: has no event files; expected a sweep or a run that was tracked, past its beginning"
