"""What an engine is given to do with each job: call a task's function, with its sinks."""

import inspect
import os
import random
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.engines.carry_out import failed
from sweeptrail.errors import Cancelled, Paused
from sweeptrail.records import Job, RunResult
from sweeptrail.system.imports import when_imported
from sweeptrail.tasks.code import Code
from sweeptrail.tasks.shared import for_one_run

if TYPE_CHECKING:
    from sweeptrail.sink import Sink
    from sweeptrail.tasks.task_run import TaskRun
    from sweeptrail.training.sinks.checkpoint import Checkpoint


@dataclass(frozen=True)
class Training:
    """Carries out runs of a task; light enough for a driver that never loads torch."""

    code: Code
    shared: Mapping[str, Any]
    """What the runs are handed; arrays in memory that processes share."""

    def __call__(self, job: Job) -> RunResult:
        """Carry out one run, or what is left of it; whatever goes wrong in it is in the result."""
        from sweeptrail.tasks.task_run import TaskRun
        from sweeptrail.training.sinks.checkpoint import Checkpoint

        # What runs have in common cannot be written to, and torch warns of every such array.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        is_kept = "checkpoint" in job.sinks
        checkpoint = Checkpoint(job.folder, key=job.key, former_keys=job.former_keys) if is_kept else None
        sinks = sinks_of(job, checkpoint)
        try:
            manager = TaskRun(job, sinks, shared=for_one_run(self.shared), checkpoint=checkpoint)
        except Exception:
            return failed(job, traceback.format_exc())
        try:
            with _in_this_process(), _mlflow_belongs_to(job, manager, sinks):
                returned = self._call(job, manager)
            return manager.finish(_remarks(returned))
        except (KeyboardInterrupt, Cancelled) as error:
            if manager.is_open:
                manager.fail_run(f"{type(error).__name__}: the sweep was stopped", "KILLED")
            raise
        except Paused:
            return manager.pause()
        except BaseException:  # SystemExit too: a task that gives up has not finished
            error_text = traceback.format_exc()
            return manager.fail_run(error_text) if manager.is_open else failed(job, error_text)

    def _call(self, job: Job, manager: "TaskRun") -> object:
        seed = int(job.values.get("seed", 0))
        seed_everything(seed)  # the module, which may draw numbers, is imported now if it was not
        function = self.code.load()
        begin = partial(_begin_with, seed, job.threads)
        begin()
        wanted = inspect.signature(function).parameters
        with when_imported("torch", begin):
            return function(manager, **{name: value for name, value in job.values.items() if name in wanted})


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, and of numpy and torch where they are loaded."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def _begin_with(seed: int, threads: int) -> None:
    seed_everything(seed)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def sinks_of(job: Job, checkpoint: "Checkpoint | None") -> "list[Sink]":
    """Build the sinks that a job names, where it is carried out.

    An epoch is in the event file before it is in the checkpoint, and in the checkpoint before it is
    in the journal: whatever moment a run is killed at, the first can be cut and the last made up.
    """
    from sweeptrail.outbox.run_journal import RunJournal
    from sweeptrail.training.sinks.events import tensorboard_sinks
    from sweeptrail.training.sinks.pause import Pause

    sweep_folder = str(Path(job.folder).parent)
    built: dict[str, Sequence[Sink]] = {
        "tensorboard": tensorboard_sinks(sweep_folder),
        "checkpoint": [checkpoint] if checkpoint else [],
        "outbox": [RunJournal(sweep_folder, parent=job.parent, tags=job.tags)],
    }
    found = [sink for name, sinks in built.items() if name in job.sinks for sink in sinks]
    return [*found, Pause(job.pause_after)] if job.pause_after else found


def _mlflow_belongs_to(job: Job, manager: "TaskRun", sinks: "Sequence[Sink]") -> AbstractContextManager[None]:
    """Let what is logged to MLflow in the block land in the run, if its facts are kept."""
    from sweeptrail.outbox.plugin.inside import belongs_to
    from sweeptrail.outbox.run_journal import RunJournal
    from sweeptrail.tasks.mlflow_run import MlflowRun

    journal = next((sink for sink in sinks if isinstance(sink, RunJournal)), None)
    return belongs_to(MlflowRun(job, manager, journal)) if journal else nullcontext()


@contextmanager
def _in_this_process() -> Iterator[None]:
    """End a process that the work has forked and not ended: it must never answer for this one."""
    process = os.getpid()
    streams = sys.stdout, sys.stderr
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)
        sys.stdout, sys.stderr = streams


def _remarks(returned: object) -> list[str]:
    if returned is None:
        return []
    return [f"the task returned a {type(returned).__name__}, which is not kept; write manager.log(name=value)"]
