"""What the terminal says of runs that are carried out elsewhere."""

import io
from pathlib import Path

import pytest

from sweeptrail.outbox.journal import FILE_NAME, Journal
from sweeptrail.records import Job
from sweeptrail.sweeps.progress import Follower
from sweeptrail.training.sinks.console import Console
from tests import written as entries


class Watched:
    """A run that a follower watches, and the clock of that."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.screen = io.StringIO()
        job = Job(3, "3_lr=0.1", {"lr": 0.1}, {}, str(folder), epochs=100, sinks=("outbox",))
        self.follower = Follower(Console(8, file=self.screen), clock=lambda: self.now)
        self.follower.follow(job)
        self.journal = Journal(folder / FILE_NAME)
        self.journal.append(entries.opened("sweep/3", name="3_lr=0.1", time=1000, tags={}))
        self.epochs = 0

    def epoch(self, seconds: float) -> None:
        self.epochs += 1
        self.journal.append(
            entries.metrics(
                {"loss": 0.5, "accuracy": 0.5, "epoch_duration": seconds, "run_duration": 1.0},
                step=self.epochs,
                time=1000,
            )
        )

    def after(self, seconds: float) -> list[str]:
        """Return what was said of silence after so many seconds more."""
        self.follower.look()
        self.now += seconds
        self.follower.look()
        return [line for line in self.screen.getvalue().splitlines() if "no epoch" in line]


def test_a_run_that_is_silent_for_ten_of_its_epochs_is_told_of_once(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    for seconds in (300.0, 66.0, 66.0):
        run.epoch(seconds)
    assert run.after(659) == []
    said = ["run 3/8  3_lr=0.1  no epoch for 12 min; its epochs took 1.1 min"]
    assert run.after(61) == said
    assert run.after(10_000) == said
    run.epoch(66.0)
    assert run.after(10_000) == said


def test_the_time_is_counted_from_the_last_epoch(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    for _ in range(5):
        run.epoch(66.0)
        assert run.after(400) == []


def test_a_run_of_short_epochs_may_be_silent_for_a_minute(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    run.epoch(0.5)
    assert run.after(59) == []
    assert run.after(2) == ["run 3/8  3_lr=0.1  no epoch for 1 min; its epochs took 0.5 s"]


@pytest.mark.parametrize("has_epochs", [False, True])
def test_a_run_without_epochs_or_one_that_is_over_is_never_told_of(tmp_path: Path, has_epochs: bool) -> None:
    run = Watched(tmp_path)
    if has_epochs:
        run.epoch(1.0)
        run.journal.append(entries.closed("FINISHED", time=1001))
    assert run.after(1_000_000) == []
