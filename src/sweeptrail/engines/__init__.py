"""Where runs are carried out."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from sweeptrail.records import Job, RunResult

Work = Callable[[Job], RunResult]
"""What is done with a job. It pickles, and it does not raise: a failed run is a result too."""


class Engine(Protocol):
    """Carries out jobs: in this process, in several processes, on a cluster."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Generator[RunResult, None, None]:
        """Carry out every job and yield one result for each, as they come, in any order.

        A job whose work raises or whose worker dies yields a FAILED result; the others go on.
        Closing the generator cancels what is left: no process or thread of the engine survives it.
        """
