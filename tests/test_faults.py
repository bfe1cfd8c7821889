"""Processes are really killed, at moments drawn from a seed: nothing is lost, nothing twice.

The seed is part of a test's name: `scripts/test -k "killed and 7"` repeats one.
"""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas
import psutil
import pytest

from sweeptrail.outbox import journal
from tests.commands import ROOT, SMALL, client, family, program, start, sweep
from tests.server import kill_group
from tests.steered import begun, begun_program, kill_after, wait_for_end
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

SETTINGS = {**SMALL, "validation_samples": "100", "batch_size": "30,60"}
KILLS_A_SWEEP = 5
DURATIONS = ["epoch duration", "run duration"]


@dataclass(frozen=True)
class Undisturbed:
    """What a sweep leaves that nobody disturbs."""

    table: pandas.DataFrame
    written: int
    """Bytes of its journals."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    finished = sweep(cwd=folder, **SETTINGS)
    assert finished.returncode == 0, finished.stderr
    return Undisturbed(numbers(folder), written(folder))


def numbers(folder: Path) -> pandas.DataFrame:
    [path] = folder.glob("runs/*/results.csv")
    return pandas.read_csv(path, index_col=0).drop(columns=DURATIONS)


def written(folder: Path) -> int:
    """Return how far a sweep has got: the bytes of its journals."""
    return sum(path.stat().st_size for path in folder.glob(f"runs/**/{journal.FILE_NAME}"))


def going(folder: Path, *, anew: bool = False) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """Start the sweep, or go on with it; anew by a program that has loaded nothing yet."""
    options = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", value)]
    words = ["resume"] if list(folder.glob("runs/*/sweep.json")) else ["sweep", *options]
    if anew:
        return begun(sys.executable, "-m", "sweeptrail", *words, cwd=folder, output=folder / "output")
    return begun_program(*words, cwd=folder, output=folder / "output")


@contextmanager
def disturbed(
    folder: Path, draw: random.Random, expected: Undisturbed, *, anew: bool = False
) -> "Iterator[subprocess.Popen[bytes]]":
    """Yield a sweep that goes on when it has written as much as is drawn, from nothing at all up to its end."""
    more = draw.uniform(-0.1, 0.4) * expected.written
    with going(folder, anew=anew) as process:
        let_write(process, folder, more)
        yield process


def has_not_begun(output: Path) -> bool:
    """Tell whether Python was stopped before anything of ours was loaded, and take what it said of that away."""
    said = output.read_text()
    found = [each for each in ("Could not import runpy module", "Fatal Python error: init_import_site") if each in said]
    if found:
        output.write_text(said[: said.index(found[0])])
    return bool(found)


def let_write(process: "subprocess.Popen[bytes]", folder: Path, more: float) -> None:
    """Wait until a sweep has written so much more, or has ended."""
    enough = written(folder) + more
    wait_for(lambda: written(folder) >= enough or process.poll() is not None)


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        servers = psutil.Process(process.pid).children()
        return [worker for server in servers for worker in server.children()]
    except psutil.NoSuchProcess:
        return []


AT_EXIT = re.compile(r"Exception ignored in [^\n]*finalize.*?RuntimeError: dictionary changed[^\n]*\n", re.DOTALL)
"""What Python says when it ends while a thread still loads MLflow, which nobody can stop."""


def finish(folder: Path, expected: Undisturbed) -> None:
    """Go on until the sweep is finished, then compare everything with an uninterrupted one."""
    for _ in range(3):  # a run whose worker was killed twice is FAILED once
        with going(folder) as finishing:
            if finishing.wait(PATIENCE) == 0:
                break
    output = AT_EXIT.sub("", (folder / "output").read_text())
    assert finishing.returncode == 0, output
    assert "Traceback" not in output
    pandas.testing.assert_frame_equal(numbers(folder), expected.table, check_exact=True)
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 9
    for number, child in enumerate(children, 1):
        rows = expected.table[expected.table["run"] == number]
        history = client(folder).get_metric_history(child.info.run_id, "validation_loss")
        told = [(item.step, item.value) for item in history]
        assert told == list(zip(rows["epoch"], rows["validation_loss"], strict=True))
    assert not list(folder.rglob("*.tmp"))


def test_a_sweep_that_is_killed_again_and_again_loses_nothing(
    fault_seed: int, tmp_path: Path, expected: Undisturbed
) -> None:
    draw = random.Random(fault_seed)
    for _ in range(KILLS_A_SWEEP):
        with disturbed(tmp_path, draw, expected) as process:
            whom = draw.choice(["driver", "worker", "group"])
            if whom == "worker" and (workers := workers_of(process)):
                draw.choice(workers).kill()
                let_write(process, tmp_path, draw.uniform(0, 0.05) * expected.written)
            if whom == "group":
                kill_group(process)
    finish(tmp_path, expected)


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_that_is_stopped_again_and_again_ends_in_good_order(
    seed: int, tmp_path: Path, expected: Undisturbed
) -> None:
    draw = random.Random(seed)
    for _ in range(KILLS_A_SWEEP):
        with disturbed(tmp_path, draw, expected, anew=True) as process:
            number = draw.choice([signal.SIGINT, signal.SIGTERM])
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, number) if draw.random() < 0.5 else process.send_signal(number)
            process.wait(PATIENCE)
            wait_for_end(process)
            if has_not_begun(tmp_path / "output"):
                continue
            assert process.returncode in (0, 128 + number, -number)  # minus: before Python listens
    assert program("reap", cwd=tmp_path).returncode in (0, 2)
    finish(tmp_path, expected)


CONCLUDING = (
    "sweeptrail.results.report.section.save",
    "sweeptrail.results.report.write",
    "sweeptrail.sweeps.conclude.add_model",
    "mlflow.MlflowClient.create_model_version",
)
"""Half of the report is there, all of it is, the model is exported, and the server has it without its alias."""


def test_a_sweep_that_is_killed_while_it_concludes_has_one_report_and_one_version_in_the_end(tmp_path: Path) -> None:
    ending = {**SMALL, "report": "true", "register": "champions", "shuffle": "true", "lr": "0.01", "epochs": "1"}
    words = ["sweep", *(word for name, value in ending.items() for word in (f"--{name.replace('_', '-')}", value))]
    for moment in CONCLUDING:
        kill_after(moment, *words, cwd=tmp_path)
        words = ["resume"]
    finished = program("resume", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    [folder] = (path.parent for path in tmp_path.glob("runs/*/sweep.json"))
    assert (folder / "report.html").read_text().rstrip().endswith("</html>")
    assert not list(folder.rglob("*.tmp"))
    parent, _ = family(tmp_path)
    [version] = client(tmp_path).search_model_versions("name = 'champions'")
    assert version.run_id == parent.data.tags["sweeptrail.champion_run_id"]
    assert client(tmp_path).get_model_version_by_alias("champions", "champion").version == version.version


def test_two_hundred_kills_while_files_are_written_leave_each_whole(tmp_path: Path) -> None:
    # In a process of their own: to fork this one, which has loaded torch, takes a tenth of a second each time.
    words = ("-m", "tests.killed_writer", str(tmp_path))
    killed = start(sys.executable, *words, cwd=ROOT, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    assert killed.returncode == 0, killed.stderr


@pytest.mark.parametrize("name", ["-dash and \"quote's", "new\nline, per%cent?#, ünï ✓"])
def test_a_sweep_lives_in_any_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    options = {**SETTINGS, "lr": "0.01", "shuffle": "true", "epochs": "1"}
    assert sweep("--tracking-uri", uri, cwd=folder, **options).returncode == 0
    words = ["resume", "--lr", "0.01,0.001", "--tracking-uri", uri]
    resumed = program(*words, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert len(numbers(folder)) == 4
    _, children = family(tmp_path)
    assert [child.info.status for child in children] == ["FINISHED"] * 4
    status = program("status", cwd=folder)
    assert "4 FINISHED  all delivered" in status.stdout
