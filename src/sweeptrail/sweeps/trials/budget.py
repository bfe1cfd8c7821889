"""The time that a sweep may take, all its sittings together."""

import time
from collections.abc import Iterable, Sequence


class Budget:
    """Seconds of which some are spent."""

    def __init__(self, seconds: float | None, spent: float) -> None:
        """`seconds` is None for as long as it takes; `spent` is what earlier sittings took."""
        self._seconds = seconds
        self._since = time.monotonic() - spent

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to begin."""
        return self._seconds is not None and time.monotonic() - self._since >= self._seconds


def spent(begun: Sequence[float], moments: Iterable[float]) -> float:
    """Return the seconds that sittings took which began then, each until the last moment before the next.

    A sitting that was killed has not said when it ended; what it had done by then has times.
    """
    ends = list(begun)
    for moment in moments:
        sitting = sum(moment >= each for each in begun) - 1
        if sitting >= 0:
            ends[sitting] = max(ends[sitting], moment)
    return sum(end - start for start, end in zip(begun, ends, strict=True))
