"""Where runs are carried out."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sweeptrail.records import Job, RunResult

Work = Callable[[Job], RunResult]
"""What is done with a job. It pickles, and it does not raise: a failed run is a result too."""


@dataclass(frozen=True)
class Options:
    """How an engine carries runs out; those that it has no use for are left alone."""

    retries: int = 1
    """How often a run is tried again whose worker or machine died."""
    workers: int | None = None
    """How many runs there are at a time; None for as many as there is room for."""
    threads: int = 1
    """Of one run."""
    run_timeout: float | None = None
    """Seconds after which a run is ended as FAILED; None for never."""
    gpus_per_run: float = 0.0
    """How many a cluster keeps for a run."""
    address: str = ""
    """Of a cluster; else RAY_ADDRESS, else one of this machine's own."""
    modules: tuple[str, ...] = ()
    """Names of modules of the current folder that a cluster does not have."""
    is_adaptive: bool = False
    """Whether jobs are chosen by what came of others, so that none is taken before there is room."""
    tracking_uri: str = field(default="", repr=False)
    """The server that workers report to whose machine does not have the sweep's folder."""
    sweep_folder: Path | None = None
    """None when the runs are not tracked."""


class Crew(Protocol):
    """An engine that is open for one kind of work."""

    @property
    def has_room(self) -> bool:
        """Whether a job that is submitted now begins at once."""

    def __len__(self) -> int:
        """Return how many jobs were submitted and are not answered."""

    def submit(self, job: Job) -> None:
        """Take a job; without room for it, it waits."""

    def next_result(self) -> RunResult:
        """Wait for the next job that ends, in any order.

        A job whose work raises or whose worker dies has a FAILED result; the others go on.
        Raises SweeptrailError if the work, or no worker at all, can be started.
        """


class Engine(Protocol):
    """Carries out jobs: in this process, in several processes, on a cluster."""

    def open(self, work: Work) -> AbstractContextManager[Crew]:
        """Make ready to do this with jobs.

        Leaving the `with` block cancels what is left: no process or thread of the engine survives it.
        """
