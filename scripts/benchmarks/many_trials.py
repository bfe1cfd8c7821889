"""A search whose trials do nothing: what is left is the cost of choosing them and of carrying them out.

Writes what it measures to `figures.json` in the current folder.
"""

import json
import resource
import sys
import time
from pathlib import Path

from sweeptrail.records import Job
from sweeptrail.sweeps import run
from sweeptrail.sweeps.trials.trials import Trials
from sweeptrail.training.manager import RunManager

SPACE = ("lr=log:1e-4..1e-1", "hidden=16..256", "dropout=0..0.5")

Moment = tuple[float, float]
"""Seconds since 1970, and of the time that this process has computed by then."""

ended: list[Moment] = []
"""When trials had ended."""

questions: list[tuple[Moment, Moment]] = []
"""When the search was asked for each, and when it had answered."""


def now() -> Moment:
    """Return this moment."""
    return time.time(), time.process_time()


def empty(manager: RunManager, *, lr: float = 0.01, hidden: int = 64, dropout: float = 0.1) -> None:
    """Train nothing."""
    manager.log(loss=(lr - 0.01) ** 2 + (hidden / 256 - 0.5) ** 2 + (dropout - 0.2) ** 2)
    ended.append(now())


class Timed(Trials):
    """Notes how long each answer takes, the decision kept on disk."""

    def ask(self) -> Job | None:
        began = now()
        job = super().ask()
        questions.append((began, now()))
        return job


def main(search: str, count: str, tracking: str) -> None:
    """Carry out the trials in this process, one after another."""
    run.Trials = Timed  # type: ignore[attr-defined]  # replaced for the measurement
    from sweeptrail import cli

    how = ["--engine", "serial", "--goal", "min:loss", "--max-runs", count, "--report", "false", "--register", "none"]
    try:
        cli.main(["sweep", f"{__name__}:empty", *SPACE, "--search", search, "--trials", count, tracking, *how])
    except SystemExit as end:
        if end.code:
            raise
    assert len(ended) == int(count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    Path("figures.json").write_text(json.dumps({"ended": ended, "questions": questions, "peak": peak}))


if __name__ == "__main__":
    # By its name, which the sweep finds the task by.
    from scripts.benchmarks import many_trials

    many_trials.main(*sys.argv[1:])
