"""A result for every job, whatever the work does."""

import contextlib
import os
import time
import traceback

from sweeptrail.engines import Work
from sweeptrail.errors import Cancelled
from sweeptrail.records import Job, RunResult


def carry_out(work: Work, job: Job) -> RunResult:
    """Return what the work returns, or a FAILED result with the traceback of what it raised instead.

    The working directory is the same afterwards. KeyboardInterrupt and Cancelled pass through.
    """
    try:
        with contextlib.chdir(os.getcwd()):
            return work(job)
    except (KeyboardInterrupt, Cancelled):
        raise
    except BaseException:  # SystemExit too: work that gives up has not finished
        return failed(job, traceback.format_exc())


def failed(job: Job, error: str) -> RunResult:
    """Return the result of a job that ended with this error."""
    return RunResult(job.index, job.name, job.params, "FAILED", error=error, time=time.time())
