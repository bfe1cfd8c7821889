"""A task that logs by steps, once to nobody and once tracked; `main` writes the seconds that each call takes."""

import json
import sys
import time
from pathlib import Path

from sweeptrail.records import Job, RunResult
from sweeptrail.sweeps.plan import SINKS
from sweeptrail.tasks.code import Importable
from sweeptrail.tasks.work import Training
from sweeptrail.training.manager import RunManager


def log_steps(manager: RunManager, *, steps: int = 10_000) -> None:
    """Log two metrics at each step."""
    for step in range(steps):
        manager.log(step=step, loss=1 / (step + 1), lr=0.1)


def seconds_per_call(steps: int, sinks: tuple[str, ...]) -> float:
    """Carry out one run in this process; return how long a call takes, the run's beginning and end included."""
    job = Job(1, "1", {}, {"steps": steps}, str(Path("runs", "1").absolute()), parent="bench", sinks=sinks)
    began = time.perf_counter()
    result: RunResult = Training(Importable(__name__, "log_steps"), {})(job)
    assert result.status == "FINISHED", result.error
    return (time.perf_counter() - began) / steps


def main(count: str) -> None:
    """Measure with and without sinks, the imports beforehand."""
    seconds_per_call(10, SINKS)
    figures = {"alone": seconds_per_call(int(count), ()), "tracked": seconds_per_call(int(count), SINKS)}
    Path("figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    from scripts.benchmarks import steps as by_its_name

    by_its_name.main(sys.argv[1])
