"""What a RunManager without arguments tracks with: a folder, a parent run, sinks and a courier."""

import sys
import time
import traceback
import uuid
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox.delivery.adopted import as_on_server
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.parent_journal import ParentJournal
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.outbox.sweep_folder import LOCK, Description, new_sweep_folder
from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.results.parent_run import Standings
from sweeptrail.sink import Sink
from sweeptrail.system.locks import locked
from sweeptrail.tracking.tags import context_tags
from sweeptrail.tracking.uri import Tracking, without_credentials
from sweeptrail.training.sinks.console import Console
from sweeptrail.training.sinks.events import tensorboard_sinks

DELIVERY_TIMEOUT = 10.0
"""Seconds to wait at the end for a server that does not answer."""


class Standalone(Sink):
    """A sweep without a driver: it begins with the first run of a loop and ends with `finish`.

    It is the last of its own sinks, so that it knows which run is open when the loop breaks off.
    """

    def __init__(self, owner: object) -> None:
        """Open the parent run. It is closed at the latest when `owner` is gone or the process ends."""
        tracking = as_on_server(Tracking.from_environment())
        self.folder = folder = new_sweep_folder(Path("runs").absolute())  # the loop may change directory
        identity, context = uuid.uuid4().hex, context_tags()
        Description(identity, time.time(), without_credentials(tracking.uri), settings={}, runs=[]).write(folder)
        self._lifetime = ExitStack()
        self._lifetime.enter_context(locked(folder / LOCK))
        self._start: RunStart | None = None
        self._epochs: list[Epoch] = []
        self._results: list[RunResult] = []
        self._closes_parent = not tracking.adopted_closes_itself
        self._parent = ParentJournal(folder, identity)
        self._parent.begin(tracking, context)
        self._standings = Standings(self._parent, tracking.uri)
        runs = RunJournal(str(folder), parent=identity, tags=context)
        self.sinks: Sequence[Sink] = [*tensorboard_sinks(str(folder)), runs, Console(), self]
        courier = Courier(tracking.uri, folder)
        with suppress(DeliveryError):
            _ = courier.server  # loaded now: in the background it would slow the first epoch down
        self._courier = BackgroundCourier(courier, say=_say)
        self._courier.start()
        self._abandon = weakref.finalize(owner, self._close_abandoned)

    def begin(self, start: RunStart) -> None:
        self._start, self._epochs = start, []

    def epoch(self, epoch: Epoch) -> None:
        self._epochs.append(epoch)

    def end(self, result: RunResult) -> None:
        self._start = None
        self._results.append(result)

    def finish(self, files: Sequence[Path], status: Status = "FINISHED", reason: str = "") -> None:
        """Log these files on the parent, close it, and deliver everything."""
        self._abandon.detach()
        self._parent.add_copies(files)
        if self._closes_parent:  # an MLflow run of somebody else has a description of its own
            self._standings.write(self._standings.board(self._results))
            self._parent.close(status, reason)
        else:
            self._parent.release()
        self._lifetime.close()
        self._courier.finish(DELIVERY_TIMEOUT)
        if waiting := self._courier.waiting():
            _say(
                f"{waiting} records wait for the tracking server; "
                f"to deliver them: sweeptrail sync '{self._parent.folder}'"
            )

    def _close_abandoned(self) -> None:
        """Close what the loop left open; whatever broke it off is what Python reported last."""
        error = getattr(sys, "last_value", None)
        if not self._start and not error:
            self.finish([])
            return
        status: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        text = "".join(traceback.format_exception(error)) if error else "the loop ended without end_run()"
        if start := self._start:
            result = RunResult(
                start.index, start.name, start.params, status, tuple(self._epochs), error=text, time=time.time()
            )
            for sink in self.sinks:
                with suppress(Exception):  # the others must be told all the same
                    sink.end(result)
        self.finish([], status, text.strip().rpartition("\n")[2])


def _say(message: str) -> None:
    print(f"sweeptrail: {message}", file=sys.stderr, flush=True)
