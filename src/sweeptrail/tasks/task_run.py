"""The manager that a task is handed."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.errors import StateError
from sweeptrail.outbox.plugin.open_run import run_id_of
from sweeptrail.outbox.run_journal import run_identity
from sweeptrail.records import Job, RunResult, RunStart
from sweeptrail.search.space import make_run
from sweeptrail.sink import Sink
from sweeptrail.training.manager import RunManager
from sweeptrail.training.open_run import OpenRun
from sweeptrail.training.sinks.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import nn


class TaskRun(RunManager):
    """A manager whose one run has begun already, and is over when the task returns.

    The article's calls work in it: `begin_run` and `end_run` act on that run.
    """

    def __init__(
        self, job: Job, sinks: Sequence[Sink], *, shared: Mapping[str, Any], checkpoint: Checkpoint | None
    ) -> None:
        super().__init__(sinks)
        self.shared = shared
        self.run_id = run_id_of(run_identity(job.parent, job.index))
        self._checkpoint = checkpoint
        self._was_begun = self._was_ended = False
        self._process = os.getpid()
        start = RunStart(job.index, job.name, job.params, job.settings, job.epochs, time=time.time())
        self._begin(start, make_run(job.params, job.params.values()), Path(job.folder) if job.sinks else None)

    def begin_run(self, run: Any, network: "nn.Module", loader: Any) -> None:
        """Say what the task's run trains."""
        self._expect(
            not self._was_begun, "begin_run() comes once in a task: each run of the sweep is a call of its own"
        )
        self._was_begun = True
        self.run_params, self.network, self.loader = run, network, loader

    def end_run(self, **metrics: Any) -> RunResult:
        """Log the metrics that were measured once; the run is over when the task returns."""
        self._expect(not self._was_ended, "end_run() comes once in a task")
        self.log(**metrics)
        self._was_ended = True
        return self._open_run("end_run()").result("FINISHED", None)

    def save(self, file_name: str) -> None:
        """Raise StateError: the sweep saves the table of all its runs."""
        raise StateError(f"save({file_name!r}) is not for a task: the sweep writes the table of all its runs")

    def measure(self, values: Mapping[str, float], step: int, moment: float) -> None:
        """Log metrics at a step and at a moment, in seconds since 1970."""
        self._open_run("log()").measure(values, step, moment)

    def finish(self, remarks: Sequence[str] = ()) -> RunResult:
        """End the run as FINISHED, with remarks that a person should read; as FAILED if its last epoch never ended."""
        run = self._open_run("finish()")
        self._loop_is_left |= self._has_looped and run.is_in_epoch  # of a loop that somebody still holds
        self._complete_a_left_epoch()
        if run.is_in_epoch:
            return self._finish(
                "FAILED", "called out of order: begin_epoch() wants end_epoch() before the task returns"
            )
        self._sinks.warnings.extend(remarks)
        return self._finish("FINISHED", None)

    def pause(self) -> RunResult:
        """End the run for now, after its last epoch."""
        return self._finish("PAUSED", None)

    def _open_run(self, method: str) -> OpenRun:
        self._expect_this_process(method)
        return super()._open_run(method)

    def _run_in_epoch(self, method: str) -> OpenRun:
        self._expect_this_process(method)
        return super()._run_in_epoch(method)

    def _expect_this_process(self, method: str) -> None:
        """Keep a process that the task has forked from telling everything a second time."""
        self._expect(os.getpid() == self._process, f"{method} is for the process that the task was called in")
