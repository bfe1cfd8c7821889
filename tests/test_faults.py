"""Processes are really killed, at moments drawn from a seed: nothing is lost, nothing twice.

The seed is part of a test's name: `scripts/test -k "killed and 7"` repeats one.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas
import psutil
import pytest

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Params
from sweeptrail.system.files import write_whole
from tests.commands import client, environment, family, start, sweep

SETTINGS = {
    "train_samples": "300",
    "validation_samples": "100",
    "batch_size": "30,60",
    "epochs": "3",
    "report": "false",
    "register": "none",
}
KILLS_A_SWEEP = 5
DURATIONS = ["epoch duration", "run duration"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished = sweep(cwd=folder, **SETTINGS)
    assert finished.returncode == 0, finished.stderr
    return numbers(folder)


def numbers(folder: Path) -> pandas.DataFrame:
    [path] = folder.glob("runs/*/results.csv")
    return pandas.read_csv(path, index_col=0).drop(columns=DURATIONS)


def go(folder: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """Start the sweep, or go on with it, in a process group of its own."""
    begun = list(folder.glob("runs/*/sweep.json"))
    options = [
        word for name, value in {**SETTINGS, **settings}.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    words = ["resume"] if begun else ["sweep", *options]
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeptrail", *words],
            cwd=folder,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        servers = psutil.Process(process.pid).children()
        return [worker for server in servers for worker in server.children()]
    except psutil.NoSuchProcess:
        return []


def all_gone(process: "subprocess.Popen[bytes]") -> None:
    """Wait until nothing of the process group is left."""
    process.wait()
    deadline = time.monotonic() + 20
    while any(one.pid != process.pid for one in group(process.pid)):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)


def group(number: int) -> Iterator[psutil.Process]:
    for one in psutil.process_iter():
        try:
            if os.getpgid(one.pid) == number and one.status() != psutil.STATUS_ZOMBIE:
                yield one
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue


def finish(folder: Path, expected: pandas.DataFrame) -> None:
    """Go on until the sweep is finished, then compare everything with an uninterrupted one."""
    for _ in range(3):  # a run whose worker was killed twice is FAILED once
        finishing = go(folder)
        if finishing.wait(timeout=120) == 0:
            break
    output = (folder / "output").read_text()
    assert finishing.returncode == 0, output
    assert "Traceback" not in output
    pandas.testing.assert_frame_equal(numbers(folder), expected, check_exact=True)
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 9
    for number, child in enumerate(children, 1):
        rows = expected[expected["run"] == number]
        history = client(folder).get_metric_history(child.info.run_id, "validation_loss")
        told = [(item.step, item.value) for item in history]
        assert told == list(zip(rows["epoch"], rows["validation_loss"], strict=True))
    assert not list(folder.rglob("*.tmp"))


def test_a_sweep_that_is_killed_again_and_again_loses_nothing(
    fault_seed: int, tmp_path: Path, expected: pandas.DataFrame
) -> None:
    draw = random.Random(fault_seed)
    for _ in range(KILLS_A_SWEEP):
        process = go(tmp_path)
        time.sleep(draw.uniform(0.2, 4.5))
        whom = draw.choice(["driver", "worker", "group"])
        if whom == "worker" and (workers := workers_of(process)):
            draw.choice(workers).kill()
            time.sleep(draw.uniform(0, 0.5))
        if whom == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        all_gone(process)
    finish(tmp_path, expected)


def test_a_sweep_that_is_killed_while_it_concludes_has_one_report_and_one_version_in_the_end(tmp_path: Path) -> None:
    draw = random.Random(0)
    ending = {"report": "true", "register": "champions", "shuffle": "true", "lr": "0.01"}
    for _ in range(4):
        process = go(tmp_path, **ending)
        while not list(tmp_path.glob("runs/*/results.json")):  # written when all runs are over
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 6))
        os.killpg(process.pid, signal.SIGKILL)
        all_gone(process)
    assert go(tmp_path).wait() == 0, (tmp_path / "output").read_text()
    [folder] = (path.parent for path in tmp_path.glob("runs/*/sweep.json"))
    assert (folder / "report.html").read_text().rstrip().endswith("</html>")
    assert not list(folder.rglob("*.tmp"))
    parent, _ = family(tmp_path)
    [version] = client(tmp_path).search_model_versions("name = 'champions'")
    assert version.run_id == parent.data.tags["sweeptrail.champion_run_id"]
    assert client(tmp_path).get_model_version_by_alias("champions", "champion").version == version.version


@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_that_is_stopped_again_and_again_ends_in_good_order(
    seed: int, tmp_path: Path, expected: pandas.DataFrame
) -> None:
    draw = random.Random(seed)
    for _ in range(KILLS_A_SWEEP):
        process = go(tmp_path)
        time.sleep(draw.uniform(0.5, 5))
        number = draw.choice([signal.SIGINT, signal.SIGTERM])
        os.killpg(process.pid, number) if draw.random() < 0.5 else process.send_signal(number)
        all_gone(process)
        assert process.returncode in (0, 128 + number, -number)  # minus: before Python listens
    assert start(sys.executable, "-m", "sweeptrail", "reap", cwd=tmp_path).returncode in (0, 2)
    finish(tmp_path, expected)


def test_a_thousand_kills_while_files_are_written_leave_each_whole(tmp_path: Path) -> None:
    draw = random.Random(0)
    text = {number: f"{number}\n" * (1 + number % 50 * 40) for number in range(100)}
    for _ in range(1000):
        child = os.fork()
        if child == 0:
            write_for_ever(tmp_path, text)
        time.sleep(draw.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (tmp_path / "results").exists():
            assert (tmp_path / "results").read_text() in text.values()
        entries = [int(entry.values["number"]) for entry in params_in(tmp_path / "journal")]
        assert entries == list(range(len(entries)))
    assert len(entries) > 100


def params_in(path: Path) -> list[Params]:
    return [entry for entry, _ in journal.read(path) if isinstance(entry, Params)]


def write_for_ever(folder: Path, text: dict[int, str]) -> None:
    try:
        written = journal.Journal(folder / "journal")
        number = len(journal.read(folder / "journal"))
        while True:
            written.append(Params({"number": str(number), "text": text[number % 100]}))
            write_whole(folder / "results", text[number % 100])
            number += 1
    finally:
        os._exit(1)


@pytest.mark.parametrize("name", ["a b", "quote\"'s", "new\nline", "ünï ✓", "per%cent?#", "-dash"])
def test_a_sweep_lives_in_any_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    options = {**SETTINGS, "lr": "0.01", "shuffle": "true", "epochs": "1"}
    assert sweep("--tracking-uri", uri, cwd=folder, **options).returncode == 0
    words = ["resume", "--lr", "0.01,0.001", "--tracking-uri", uri]
    resumed = start(sys.executable, "-m", "sweeptrail", *words, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert len(numbers(folder)) == 4
    _, children = family(tmp_path)
    assert [child.info.status for child in children] == ["FINISHED"] * 4
    status = start(sys.executable, "-m", "sweeptrail", "status", cwd=folder)
    assert "4 FINISHED  all delivered" in status.stdout
