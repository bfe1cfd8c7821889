"""The courier at work beside a sweep, in a thread of its own."""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence

from sweeptrail.errors import BusyError
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.tracking.ui_links import compare_address, run_address

INTERVAL = 0.5
"""Seconds between two looks at the journals."""

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a server that does not answer; the first pause is INTERVAL, then it doubles."""


class BackgroundCourier:
    """Delivers while the sweep runs; training never waits for it."""

    def __init__(self, courier: Courier, say: Callable[[str], None]) -> None:
        self._courier = courier
        self._say = say
        self._stopping = threading.Event()
        self._deadline_passed = threading.Event()
        self._problem = ""
        self._failing_since = math.inf
        """Counts while MLflow was never loaded: that may take long, and is no silence of the server."""
        # A daemon: a server that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def finish(self, timeout: float, *, at_most: float = math.inf) -> None:
        """Deliver the rest; give up when the server has accepted nothing for `timeout` seconds, or after `at_most`."""
        began = time.monotonic()
        self._stopping.set()
        while self._thread.is_alive():
            now = time.monotonic()
            answered = self._courier.answered
            if now - max(began, self._failing_since if math.isinf(answered) else answered) > timeout:
                break
            if now - began > at_most:
                break
            self._thread.join(0.05)
        self._deadline_passed.set()
        if refusals := self._courier.refusals:
            self._say(f"the tracking server refused {len(refusals)} records for good, kept on disk ({refusals[0]})")

    def waiting(self) -> int:
        """Return how many records the server has not got, by what the courier has left on disk."""
        return Courier(self._courier.uri, self._courier.folder).waiting()

    def address(self, identity: str) -> str:
        """Return the fragment of the tracking server's address that shows this run; empty while it has none."""
        where = self._courier.where(identity)
        return run_address(where) if where else ""

    def comparison(self, identities: Sequence[str]) -> str:
        """Return the fragment of the address that compares these runs; empty with fewer than two on the server."""
        found = [where for identity in identities if (where := self._courier.where(identity))]
        return compare_address(found[0].experiment_id, [where.run_id for where in found]) if len(found) > 1 else ""

    @property
    def problem(self) -> str:
        """Why the server does not take what is sent; empty while it does."""
        return self._problem

    def _work(self) -> None:
        _yield_to_training()
        pause = INTERVAL
        while not self._deadline_passed.is_set():
            stopping = self._stopping.is_set()
            try:
                self._courier.deliver()
            except BusyError:  # the server is being told, by another process
                self._failing_since = min(self._failing_since, time.monotonic())
                self._deadline_passed.wait(INTERVAL if stopping else 0)
            except Exception as error:  # whatever it was, a courier that dies would deliver nothing more
                self._fail(str(error))
                pause = min(pause * 2, LONGEST_PAUSE)
                self._deadline_passed.wait(min(pause, 1) if stopping else 0)
            else:
                self._recover()
                pause = INTERVAL
                if stopping:
                    return
            self._stopping.wait(pause)

    def _fail(self, problem: str) -> None:
        if not self._problem:
            self._say(f"the tracking server does not answer; everything is kept on disk and sent later ({problem})")
        self._problem = problem
        self._failing_since = min(self._failing_since, time.monotonic())

    def _recover(self) -> None:
        if self._problem:
            self._say("the tracking server answers again; everything has been sent")
        self._problem = ""


def _yield_to_training() -> None:
    """Give way to the workers: on Linux a thread has a priority of its own."""
    if hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
