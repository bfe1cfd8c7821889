"""`sweeptrail tensorboard`: event files from folders and from tracking servers, and TensorBoard on them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from sweeptrail import viewer
from sweeptrail.errors import RefusedError, SettingsError
from sweeptrail.outbox.events import Mirror
from sweeptrail.outbox.server import TrackingServer
from tests.commands import environment, start, sweep
from tests.server import Server, mlflow_server, process_group
from tests.small_sweep import wait_for

EVENTS = "events.out.tfevents.1"


def write_events(path: Path, *steps: int) -> Path:
    """Add the scalar `Loss` at these steps to an event file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        for step in steps:
            value = Summary.Value(tag="Loss", simple_value=1 / step)
            event = Event(step=step, wall_time=step, summary=Summary(value=[value]))
            writer.write(event.SerializeToString())
    return path


def steps_in(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [item.step for item in events.Scalars("Loss")]


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of the last change of each file."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def open_run(client: MlflowClient, name: str, parent: str = "", **tags: str) -> str:
    more = {"mlflow.parentRunId": parent} if parent else {}
    return str(client.create_run("0", run_name=name, tags={**tags, **more}).info.run_id)


def fetch(mirror: Mirror) -> tuple[int, int]:
    """Return how many runs were asked for, and how many files were fetched."""
    return mirror.look(), sum(mirror.fetch())


@pytest.fixture
def store(tmp_path: Path) -> TrackingServer:
    return TrackingServer(f"sqlite:///{tmp_path}/mlflow.db")


def test_only_what_has_changed_is_fetched_and_nothing_of_a_run_that_is_over(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    parent = open_run(client, "parent")
    events = write_events(tmp_path / "here" / EVENTS, 1, 2)
    runs = [open_run(client, f"{number}_lr=0.{number}", parent) for number in (1, 2)]
    for run in runs:
        client.log_artifact(run, str(events), "tensorboard")
    mirror = Mirror(store, parent, tmp_path / "cache")
    assert fetch(mirror) == (2, 2)
    assert mirror.is_sweep
    assert sorted(path.name for path in mirror.folder.iterdir()) == ["1_lr=0.1", "2_lr=0.2"]
    before = files_below(tmp_path / "cache")
    assert fetch(mirror) == (2, 0)
    assert fetch(Mirror(store, parent, tmp_path / "cache")) == (2, 0)
    assert files_below(tmp_path / "cache") == before

    client.log_artifact(runs[0], str(write_events(events, 3)), "tensorboard")
    client.set_terminated(runs[0])
    assert fetch(mirror) == (2, 1)
    assert steps_in(mirror.folder / "1_lr=0.1") == [1, 2, 3]
    assert steps_in(mirror.folder / "2_lr=0.2") == [1, 2]
    assert mirror.is_open
    client.set_terminated(runs[1])
    client.set_terminated(parent)
    assert fetch(mirror) == (1, 0)
    assert not mirror.is_open
    assert fetch(mirror) == (0, 0)


def test_a_file_that_grows_stays_the_same_file_and_one_that_was_cut_is_replaced_whole(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    run = open_run(client, "run")
    events = write_events(tmp_path / "here" / EVENTS, 1, 2)
    mirror = Mirror(store, run, tmp_path / "cache")
    inodes = []
    for _ in range(2):
        client.log_artifact(run, str(write_events(events, 3)), "tensorboard")
        assert fetch(mirror) == (1, 1)
        assert (mirror.folder / EVENTS).read_bytes() == events.read_bytes()
        inodes.append((mirror.folder / EVENTS).stat().st_ino)
    assert inodes[0] == inodes[1]  # else TensorBoard, which has it open, would not see what is new
    events.unlink()
    client.log_artifact(run, str(write_events(events, 1)), "tensorboard")
    assert fetch(mirror) == (1, 1)
    assert (mirror.folder / EVENTS).read_bytes() == events.read_bytes()


def test_what_was_fetched_in_the_middle_of_a_record_is_read_up_to_there_and_completed_later(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    run = open_run(client, "run")
    whole = write_events(tmp_path / "here" / EVENTS, 1, 2, 3)
    content = whole.read_bytes()
    whole.write_bytes(content[:-5])
    mirror = Mirror(store, run, tmp_path / "cache")
    client.log_artifact(run, str(whole), "tensorboard")
    fetch(mirror)
    reader = EventAccumulator(str(mirror.folder)).Reload()
    assert [item.step for item in reader.Scalars("Loss")] == [1, 2]
    whole.write_bytes(content)
    client.log_artifact(run, str(whole), "tensorboard")
    fetch(mirror)
    assert [item.step for item in reader.Reload().Scalars("Loss")] == [1, 2, 3]


def test_runs_of_any_name_stay_below_the_cache_and_apart(store: TrackingServer, tmp_path: Path) -> None:
    client = MlflowClient(store.uri)
    events = write_events(tmp_path / "here" / EVENTS, 1)
    for name in ("../../../outside", "/outside", "..", ".", "a\nb\0c", "x" * 400, "%2e%2e%2foutside"):
        parent = open_run(client, name, **{"sweeptrail.folder": name})
        for _ in range(2):
            client.log_artifact(open_run(client, name, parent), str(events), "tensorboard")
        mirror = Mirror(store, parent, tmp_path / "cache" / "events")
        before = files_below(tmp_path)
        assert fetch(mirror) == (2, 2)
        new = files_below(tmp_path).keys() - before.keys()
        assert len(new) == 2
        assert all(path.startswith("cache/events/") for path in new)
        assert {len(Path(path).parts) for path in new} == {6}  # the cache, the server, the sweep, the run, the file


class Hostile(BaseHTTPRequestHandler):
    """A tracking server that offers one run with files of many names."""

    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path.endswith("/artifacts"):
            names = self.names if parse_qs(address.query)["path"][0].endswith("/tensorboard") else ()
            self._answer(json.dumps({"files": [{"path": name, "is_dir": False, "file_size": 3} for name in names]}))
        elif "/artifacts/" in address.path:
            self._answer("bad")
        else:
            info = {"run_id": "a" * 32, "run_uuid": "a" * 32, "experiment_id": "0", "status": "FINISHED"}
            info |= {"artifact_uri": "mlflow-artifacts:/0/a/artifacts", "start_time": "1", "end_time": "2"}
            self._answer(json.dumps({"run": {"info": info, "data": {}}}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("{}")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hostile_server(*names: str) -> Iterator[str]:
    handler = type("Handler", (Hostile,), {"names": names})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "name",
    [
        "../events.out.tfevents.2",
        "../../../../../outside.tfevents",
        "/outside.tfevents",
        "below/outside.tfevents",
        "..%2f..%2foutside.tfevents",
        "out side.tfevents",
        "file:///outside.tfevents",
        "..\\outside.tfevents",
        "..",
        "outside.py",
        "outside.tfevents" * 30,
    ],
)
def test_an_artifact_with_a_hostile_name_is_never_written(tmp_path: Path, name: str) -> None:
    with hostile_server(EVENTS, name) as uri:
        mirror = Mirror(TrackingServer(uri), "a" * 32, tmp_path / "cache" / "events")
        before = files_below(tmp_path).keys()
        with suppress(RefusedError):  # MLflow's client refuses some of these answers itself
            assert fetch(mirror) == (1, 1)
        assert {Path(path).name for path in files_below(tmp_path).keys() - before} <= {EVENTS}


def test_a_run_that_the_server_has_not_is_an_error(store: TrackingServer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^expected latest, .*, or the id of a run, got 'nothing' \(.*not found"):
        Mirror(store, "nothing", tmp_path)


@pytest.mark.parametrize("which", ["latest", "2026-01-31_12-00-00", "runs/2026-01-31_12-00-00", "parent", "c0ffee"])
def test_a_sweep_on_this_machine_is_found_by_what_it_is_called(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = local_sweep(tmp_path / "runs")
    assert viewer.find_source(which, Path("runs")) == viewer.Source(folder.name, folder, is_run=False)


@pytest.mark.parametrize("which", ["child", "runs/2026-01-31_12-00-00/1_lr=0.1"])
def test_a_run_on_this_machine_is_found_by_its_id_and_its_folder(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = local_sweep(tmp_path / "runs") / "1_lr=0.1"
    assert viewer.find_source(which, Path("runs")) == viewer.Source("1_lr=0.1", folder, is_run=True)


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
    sources = [viewer.Source("run", run, is_run=True) for run in runs]
    with viewer.one_folder(sources) as folder:
        assert {path.name: path.resolve() for path in folder.iterdir()} == {"run": runs[0], "run_2": runs[1]}
    with viewer.one_folder(sources[:1]) as folder:
        assert [path.name for path in folder.iterdir()] == ["run"]
    sweep = viewer.Source("a", tmp_path / "a", is_run=False)
    with viewer.one_folder([sweep]) as folder:
        assert folder == tmp_path / "a"


def test_a_port_that_is_taken_is_an_error_only_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^port: {port} of 127.0.0.1 cannot be used \(Address already in use"):
            viewer.choose_port("127.0.0.1", port)
        monkeypatch.setattr(viewer, "USUAL_PORT", port)
        assert viewer.choose_port("127.0.0.1", None) not in (port, 0)


def test_a_host_that_is_not_this_machine_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^host: 192.0.2.1 cannot be used .*; write 127.0.0.1$"):
        viewer.choose_port("192.0.2.1", None)


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
    with urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=10) as reply:
        tags: dict[str, dict[str, Any]] = json.load(reply)
    return {run: sorted(found) for run, found in tags.items()}


def shows(address: str, run: str, steps: list[int]) -> bool:
    query = f"{address}data/plugin/scalars/scalars?tag=Loss&run={run}"
    try:
        with urllib.request.urlopen(query, timeout=10) as reply:
            return [step for _, step, _ in json.load(reply)] == steps
    except urllib.error.HTTPError:  # it does not know the run yet
        return False


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


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
    [parent] = MlflowClient(tracking.uri).search_runs(["0"], "tags.sweeptrail.folder != ''")
    arguments = (parent.info.run_id, "--tracking-uri", tracking.uri)
    names = {"1_lr=0.01,batch_size=50,shuffle=True", "2_lr=0.01,batch_size=100,shuffle=True"}
    with shown(*arguments, cwd=looked) as (process, address):
        wait_for(lambda: scalars(address).keys() == names)
        wait_for(lambda: all("Validation accuracy" in tags for tags in scalars(address).values()))
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "fetched 2 event files of 2 runs" in errors
    with pytest.raises(urllib.error.URLError):
        scalars(address)
    before = files_below(looked / "cache")
    with shown(*arguments, cwd=looked) as (process, _):
        process.terminate()
        _, errors = process.communicate(timeout=10)
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
        assert process.wait(10) == 0


def test_a_run_without_event_files_on_the_server_is_one_line(tracking: Server, tmp_path: Path) -> None:
    client = MlflowClient(tracking.uri)
    run = open_run(client, "empty")
    client.set_terminated(run)
    *_, line = refused(run, "--tracking-uri", tracking.uri, cwd=tmp_path).splitlines()
    assert line == f"error: {run}: has no event files; expected a sweep or a run that was tracked, past its beginning"
