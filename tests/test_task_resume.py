"""A sweep of a task goes on: from its folder by its name, and from a server only for whoever names its code."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pandas
import pytest

from sweeptrail.outbox import sweep_folder
from tests.commands import SMALL, family, new_store, program
from tests.steered import begun
from tests.waiting import FOR_EVER, PATIENCE, wait_for

pytestmark = pytest.mark.slow

DIGITS = """
from pathlib import Path

class Counter:
    count = 0
    def state_dict(self): return {"count": self.count}
    def load_state_dict(self, state): self.count = state["count"]

def train(manager, *, lr: float = 0.1, epochs: int = 3):
    counter = Counter()
    for epoch in manager.epochs(epochs, counter=counter):
        counter.count += epoch
        manager.log(validation_accuracy=lr * counter.count)
        if lr == 0.2 and epoch == 2 and not Path("healed").exists():
            raise ValueError("not yet")
    manager.log(test_accuracy=lr)
"""

ENDING = ("--report", "false", "--register", "none", "--engine", "serial")


def sweeptrail(*arguments: str, cwd: Path) -> tuple[int, str]:
    done = program(*arguments, cwd=cwd)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def table_of(folder: Path) -> list[tuple[int, float, float, float]]:
    [path] = folder.glob("runs/*/results.csv")
    rows = pandas.read_csv(path)[["run", "epoch", "lr", "validation_accuracy"]]
    return [tuple(row) for row in rows.itertuples(index=False)]


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    """Make a sweep of which one run has failed in its second epoch, and will not fail again."""
    (tmp_path / "digits.py").write_text(DIGITS)
    new_store(tmp_path)
    code, output = sweeptrail("sweep", "digits:train", "lr=0.1,0.2", *ENDING, cwd=tmp_path)
    assert code == 1, output
    (tmp_path / "healed").touch()
    return tmp_path


COMPLETE = [(run, epoch, lr, lr * sum(range(epoch + 1))) for run, lr in ((1, 0.1), (2, 0.2)) for epoch in (1, 2, 3)]


def assert_complete(folder: Path) -> None:
    assert table_of(folder) == COMPLETE
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3


def test_a_sweep_of_a_task_goes_on_from_its_folder_by_its_name(half_done: Path) -> None:
    code, output = sweeptrail("resume", "latest", *ENDING, cwd=half_done)
    assert code == 0, output
    assert "has changed" not in output
    assert_complete(half_done)


HANGING = f"""
import time
from pathlib import Path

def train(manager, *, lr: float = 0.1):
    Path("hangs").touch()
    time.sleep({FOR_EVER})
"""


def test_ctrl_c_on_a_terminal_is_one_line_also_with_the_process_that_has_imported_the_task(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    output, words = tmp_path / "output", ("sweep", "hanging:train", *ENDING[:4])
    with begun(sys.executable, "-m", "sweeptrail", *words, "--no-tracking", cwd=tmp_path, output=output) as process:
        wait_for(lambda: (tmp_path / "hangs").exists() or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
    [line] = output.read_text().splitlines()
    assert line.startswith("sweeptrail: stopped; to go on: ")


def test_more_values_of_an_axis_add_runs_and_the_finished_ones_stay(half_done: Path) -> None:
    code, output = sweeptrail("resume", "latest", "lr=0.3", *ENDING, cwd=half_done)
    assert code == 0, output
    assert [row[:3] for row in table_of(half_done)] == [
        (run, epoch, lr) for run, lr in ((1, 0.1), (2, 0.2), (3, 0.3)) for epoch in (1, 2, 3)
    ]


def test_another_task_and_other_fixed_values_are_refused(half_done: Path) -> None:
    code, output = sweeptrail("resume", "latest", "--task", "fashion-mnist", *ENDING, cwd=half_done)
    assert code == 2
    assert "task: the sweep to resume is of digits:train, got fashion-mnist; leave it out" in output


def test_that_the_source_of_a_task_has_changed_is_said_in_one_line_and_not_refused(half_done: Path) -> None:
    (half_done / "digits.py").write_text(DIGITS + "\n# better\n")
    code, output = sweeptrail("resume", "latest", *ENDING, cwd=half_done)
    assert code == 0, output
    [line] = [line for line in output.splitlines() if "has changed" in line]
    assert line.startswith("sweeptrail: the source of digits:train has changed since 2 of the 2 runs began")
    assert_complete(half_done)


def test_a_task_that_is_gone_is_said_and_the_sweep_stays_as_it_was(half_done: Path) -> None:
    (half_done / "digits.py").unlink()
    code, output = sweeptrail("resume", "latest", *ENDING, cwd=half_done)
    assert code == 2
    assert "got 'digits:train'; there is no module digits" in output
    parent, children = family(half_done)
    assert [run.info.status for run in (parent, *children)] == ["FAILED", "FINISHED", "FAILED"]


def test_a_task_that_only_a_server_names_is_run_for_whoever_names_it_too(half_done: Path) -> None:
    parent, _ = family(half_done)
    shutil.rmtree(half_done / "runs")
    (half_done / "imported").touch()
    (half_done / "digits.py").write_text(f"open('imported', 'a').write('x')\n{DIGITS}")
    for words in ((), ("lr=0.3",), ("--task", "digits:other")):  # and refused again, from what the first left
        code, output = sweeptrail("resume", parent.info.run_id, *words, *ENDING, cwd=half_done)
        assert code == 2
        assert "resume: the tracking server says that the sweep runs digits:train, which is not imported" in output
        assert "if you know it, write --task digits:train" in output
    assert (half_done / "imported").read_text() == ""
    code, output = sweeptrail("resume", parent.info.run_id, "--task", "digits:train", *ENDING, cwd=half_done)
    assert code == 0, output
    assert_complete(half_done)
    [folder] = half_done.glob("runs/*/sweep.json")
    assert not sweep_folder.read(folder.parent).is_from_server
    assert sweeptrail("resume", "latest", *ENDING, cwd=half_done)[0] == 0


def test_a_network_that_only_a_server_names_is_imported_for_whoever_names_it_too(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("open('imported', 'a').write('x')\nfrom sweeptrail import Network as Own\n")
    new_store(tmp_path)
    options = {**SMALL, "epochs": "1", "batch_size": "50", "lr": "0.1", "shuffle": "true", "network": "nets:Own"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    code, output = sweeptrail("sweep", *words, "--engine", "serial", cwd=tmp_path)
    assert code == 0, output
    parent, _ = family(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "imported").unlink()
    for _ in range(2):
        code, output = sweeptrail("resume", parent.info.run_id, cwd=tmp_path)
        assert code == 2
        assert "resume: the tracking server says that the sweep runs nets:Own, which is not imported" in output
        assert "if you know it, write --network nets:Own" in output
    assert not (tmp_path / "imported").exists()
    code, output = sweeptrail("resume", parent.info.run_id, "--network", "nets:Own", cwd=tmp_path)
    assert code == 0, output
    assert family(tmp_path)[0].info.status == "FINISHED"
