"""How tests wait: for events, never for seconds, under one limit that only a test that fails ever reaches."""

import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds that a test waits at most for one event, or for a whole command to end."""

FOR_EVER = 10 * PATIENCE
"""Seconds for which a test has something hang: whoever waits for that never passes."""


def wait_for(condition: Callable[[], object], limit: float = PATIENCE) -> None:
    """Return when something has become true."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit:.0f} s in vain"
        time.sleep(0.01)
