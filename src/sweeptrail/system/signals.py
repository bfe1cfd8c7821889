"""Ctrl-C and SIGTERM: the first ends the work in good order, a second Ctrl-C ends it at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sweeptrail.errors import Cancelled


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Cancelled in the `with` block at SIGINT or SIGTERM; its one argument is the exit code for that."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _stop_at_once)
    # `mlflow run` passes a Ctrl-C on as SIGTERM, although the terminal has sent it to us as well.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled(128 + number)


def _stop_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)  # the workers end when they lose us
