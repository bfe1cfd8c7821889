"""Runs in this process, one after another: for notebooks, debuggers and profilers."""

from collections.abc import Generator, Sequence

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import carry_out
from sweeptrail.records import Job, RunResult


class Serial:
    """Carries out jobs in this process, in the order given."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Generator[RunResult, None, None]:
        """Carry out each job when its result is asked for."""
        for job in jobs:
            yield carry_out(work, job)
