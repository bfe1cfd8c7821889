"""How long a job may take, and how its worker is ended after that."""

import math
import signal
import time
from collections import deque

from sweeptrail.engines.processes.worker import GRACE, STACK_SIGNAL

STACK_TIME = 1.0
"""Seconds that a worker has to write where its threads are."""

ENDING: tuple[tuple[tuple[int, ...], float], ...] = (
    ((STACK_SIGNAL, signal.SIGCONT), STACK_TIME),  # a process that is stopped hears nothing before it goes on
    ((signal.SIGTERM,), GRACE),
    ((signal.SIGKILL,), math.inf),
)
"""The signals that end a worker, and how long each step is waited for."""


class Deadline:
    """When the next step of a worker's ending is due: never, where a job may take as long as it likes."""

    def __init__(self, seconds: float | None = None) -> None:
        """A job that is handed out now may take so many seconds."""
        self._due = math.inf if seconds is None else time.monotonic() + seconds
        self._steps = deque(ENDING)

    @property
    def wait(self) -> float | None:
        """Seconds until the next step; None if there is none."""
        return None if math.isinf(self._due) else max(0.0, self._due - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether the job has taken too long."""
        return len(self._steps) < len(ENDING)

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was told to end: what it answers after that is no result."""
        return len(self._steps) < len(ENDING) - 1

    def due_signals(self) -> tuple[int, ...]:
        """Return the signals that are due now, once; after a pause of the driver too, each step has its time."""
        if time.monotonic() < self._due:
            return ()
        signals, pause = self._steps.popleft()
        self._due = time.monotonic() + pause
        return signals
