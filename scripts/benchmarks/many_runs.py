"""Sweeps whose runs do nothing: what is left is the cost of carrying runs out.

`main` writes what it measures to `figures.json` in the current folder.
"""

import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from sweeptrail.engines.carry_out import results
from sweeptrail.engines.processes.engine import Processes, auto_workers
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Epoch, Job, RunResult, RunStart
from sweeptrail.results import table
from sweeptrail.sweeps import run
from sweeptrail.tasks.work import Training

INTERVAL = 0.02
"""Seconds between two looks at the memory of this process."""


class Memory:
    """How large this process was, and when."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._sizes: list[tuple[float, int]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def growth(self, since: float) -> float:
        """Return the largest size after a moment divided by the size at that moment."""
        self._look()
        later = [size for moment, size in self._sizes if moment >= since]
        return max(later) / later[0]

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(INTERVAL)

    def _look(self) -> None:
        self._sizes.append((time.time(), self._process.memory_info().rss))


def nothing(job: Job) -> RunResult:
    """Do nothing with a job."""
    return RunResult(job.index, job.name, job.params, "FINISHED", time=time.time())


def engine_alone(count: int) -> list[float]:
    """Carry out runs that do nothing; return when each ended."""
    jobs = [Job(index, f"run {index}", {"lr": index}, {}, "") for index in range(1, count + 1)]
    engine = Processes(auto_workers(1), 1, ForkServer((__name__,)))
    return [result.time for result in list(results(engine, nothing, jobs))]


class OnlyTracked(Training):
    """Writes the journal of a run of one epoch, without training anything."""

    def __call__(self, job: Job) -> RunResult:
        outbox = RunJournal(str(Path(job.folder).parent), parent=job.parent, tags=job.tags)
        outbox.begin(RunStart(job.index, job.name, job.params, epochs=1, time=time.time()))
        epoch = Epoch(job.index, 1, loss=0, accuracy=0, epoch_duration=0, run_duration=0, time=time.time())
        outbox.epoch(epoch)
        result = RunResult(job.index, job.name, job.params, "FINISHED", (epoch,), time=time.time())
        outbox.end(result)
        return result


def whole_sweep(count: int, data_dir: str) -> list[float]:
    """Carry out a tracked sweep as the command line does, but for training and TensorBoard; return when runs ended."""
    run.Training = OnlyTracked  # type: ignore[attr-defined]  # replaced for the measurement
    from sweeptrail import cli

    one_combination = ["--lr", "0.01", "--batch-size", "100", "--shuffle", "true"]
    seeds = ",".join(map(str, range(count)))
    try:
        cli.main(
            [
                "sweep",
                "--data-dir",
                data_dir,
                *one_combination,
                "--seed",
                seeds,
                "--report",
                "false",
                "--register",
                "none",
            ]
        )
    except SystemExit as end:
        if end.code:
            raise
    journals = list(Path().glob("runs/*/*/outbox.jsonl"))
    assert len(journals) == count
    return [entry.time / 1000 for path in journals for entry, _ in journal.read(path) if isinstance(entry, Closed)]


def write_table(count: int) -> float:
    """Return how many seconds it takes to write the results of so many runs of three epochs."""
    params = {"lr": 0.01, "batch_size": 100, "shuffle": True}
    found = [RunResult(index, f"run {index}", params, "FINISHED", _epochs(index)) for index in range(1, count + 1)]
    began = time.perf_counter()
    table.save(table.rows(found), Path("results"))
    return time.perf_counter() - began


def _epochs(run: int) -> tuple[Epoch, ...]:
    extra = {"validation_loss": 1 / (run + 1), "validation_accuracy": 1 / 3}
    return tuple(Epoch(run, number, 1 / run, 2 / 3, 1 / 7, number / 7, extra) for number in (1, 2, 3))


def main(what: str, count_text: str, data_dir: str) -> None:
    """Measure the engine alone, a whole sweep, or the table."""
    count = int(count_text)
    figures: dict[str, Any]
    if what == "table":
        figures = {"seconds": write_table(count)}
    else:
        importlib.import_module("sweeptrail.tracking.client")  # beforehand: loading MLflow would look like growth
        began, memory = time.time(), Memory()
        ended = sorted(whole_sweep(count, data_dir) if what == "sweep" else engine_alone(count))
        figures = {"seconds": time.time() - began, "growth": memory.growth(ended[count // 10 - 1])}
        figures["ended"] = [moment - began for moment in ended]
    Path("figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    # By its name, since workers cannot look anything up in __main__.
    from scripts.benchmarks import many_runs

    many_runs.main(*sys.argv[1:])
