"""What a worker process does: one job after another, until it is told to end."""

import contextlib
import faulthandler
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import carry_out, failed
from sweeptrail.engines.output import keeping_output
from sweeptrail.errors import Cancelled, SweeptrailError
from sweeptrail.records import RunResult
from sweeptrail.system import streams
from sweeptrail.system.shared_arrays import unpack

GRACE = 2.0
"""Seconds that a cancelled worker has to clean up before it is killed."""

STACK_SIGNAL = signal.SIGUSR2
"""At which a worker writes where each of its threads is. Lightning, for one, takes SIGUSR1 for itself."""

Answer = RunResult | str | SweeptrailError
"""The result; the traceback when the job could not be read; an error when the work could not be."""


def work_until_told(connection: Connection, work: Sequence[int], stack: int, lifeline: int) -> NoReturn:
    """Answer each job that the connection brings, and exit when it closes.

    The work is what `unpack` makes of its descriptors; `stack` is the file for what STACK_SIGNAL asks for.
    `lifeline` is the read end of a pipe that closes when the fork server dies.
    """
    # In C, at once and in whatever thread: also while the lock of Python is held, or the main thread hears nothing.
    faulthandler.register(STACK_SIGNAL, stack, all_threads=True)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's, or one with windows, is not for a process without either
    signal.signal(signal.SIGTERM, _cancel)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        _answer_jobs(connection, work)
        code = 0
    except Cancelled:
        code = -signal.SIGTERM
    except BaseException:
        traceback.print_exc()
        code = 1
    _exit(code)


def _answer_jobs(connection: Connection, descriptors: Sequence[int]) -> None:
    try:
        work = unpack(descriptors, adopt=True)
    except Exception as error:
        connection.send(SweeptrailError(f"a worker cannot load the work:\n{traceback.format_exc()}{_hint(error)}"))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # the driver closed the connection, or died
        while True:
            connection.send_bytes(_answer(work, connection.recv_bytes()))


def _answer(work: Work, message: bytes) -> bytes:
    try:
        job = pickle.loads(message)
    except Exception:
        return pickle.dumps(f"the job cannot be read in a worker:\n{traceback.format_exc()}")
    try:
        result = carry_out(keeping_output(work), job)
    except KeyboardInterrupt:  # raised by the work itself: workers do not hear Ctrl-C
        result = failed(job, traceback.format_exc())
    streams.flush()  # what the job printed must not be lost with a worker that is killed later
    try:
        return pickle.dumps(result)
    except Exception:
        return pickle.dumps(failed(job, f"the result cannot be pickled:\n{traceback.format_exc()}"))


def _hint(error: Exception) -> str:
    if "__main__" in str(error):
        return "functions of a script or a notebook cannot be sent to workers; move them to a module and import it"
    return "the work must be importable in a new process"


def _cancel(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise Cancelled


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(code: int) -> NoReturn:
    streams.flush()
    if code == -signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(code)  # does not wait for threads that a job left behind
