"""What an engine is given to do with each job: a run of a task, with its sinks."""

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.engines.carry_out import failed
from sweeptrail.records import Job, RunResult, RunStart

if TYPE_CHECKING:
    from sweeptrail.training.sinks import Sink
    from sweeptrail.training.sinks.checkpoint import Checkpoint


@dataclass(frozen=True)
class Training:
    """Carries out runs of a task; light enough for a driver that never loads torch."""

    task: str
    shared: Any
    """What the task's `prepare` has made."""

    def __call__(self, job: Job) -> RunResult:
        """Carry out one run, or what is left of it; whatever goes wrong in it is in the result."""
        # 1.5 s, in the process that trains.
        from sweeptrail.training.manager import RunManager
        from sweeptrail.training.sinks.checkpoint import Checkpoint
        from sweeptrail.training.task import find_task

        checkpoint = Checkpoint(job.folder, key=job.key)
        manager = RunManager(sinks_of(job, checkpoint))
        try:
            return find_task(self.task).train(job, self.shared, manager, checkpoint)
        except Exception:
            error = traceback.format_exc()
            return manager.fail_run(error) if manager.is_open else failed(job, error)
        except BaseException as error:
            if manager.is_open:
                manager.fail_run(f"{type(error).__name__}: the sweep was stopped", "KILLED")
            raise


def sinks_of(job: Job, checkpoint: "Checkpoint") -> "list[Sink]":
    """Build the sinks that a job names, where it is carried out.

    An epoch is in the event file before it is in the checkpoint, and in the checkpoint before it is
    in the journal: whatever moment a run is killed at, the first can be cut and the last made up.
    """
    from sweeptrail.outbox.run_journal import RunJournal
    from sweeptrail.training.sinks.tensorboard import TensorBoard

    sweep_folder = str(Path(job.folder).parent)
    built: dict[str, Sink] = {
        "tensorboard": TensorBoard(sweep_folder),
        "checkpoint": checkpoint,
        "outbox": RunJournal(sweep_folder, parent=job.parent, tags=job.tags),
    }
    return [sink for name, sink in built.items() if name in job.sinks]


def start_of(job: Job, *, resumed_after: int) -> RunStart:
    """Return the fact that a job begins now, or goes on after so many epochs."""
    return RunStart(
        job.index, job.name, job.params, job.settings, job.epochs, resumed_after=resumed_after, time=time.time()
    )
