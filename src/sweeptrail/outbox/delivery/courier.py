"""Delivers journals to the tracking server: at least once sent, exactly once in effect."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from sweeptrail.errors import BusyError, DeliveryError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.batching import replaceable, rounds
from sweeptrail.outbox.delivery.runs import KnownRuns
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.delivery.telling import Teller
from sweeptrail.outbox.entries import Closed, Entry, Opened, Version
from sweeptrail.system.locks import locked
from sweeptrail.tracking.ui_links import Where
from sweeptrail.tracking.uri import without_credentials

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer

LOCK = "courier.lock"
"""Held for the time of one delivery, so that two couriers do not create the same run."""

Delivery = Callable[[], int]
"""Delivers something and returns the number of records."""


class Courier:
    """Delivers what the journals in one sweep's folder hold to one tracking server."""

    def __init__(self, uri: str, folder: Path, *, parent: Opened | None = None) -> None:
        """`parent` is the record that opened the sweep's own run, where another courier delivers that."""
        self.uri = uri
        self.folder = folder
        self._parent = parent
        self._runs = KnownRuns(uri, folder)

    @cached_property
    def server(self) -> "TrackingServer":
        """The tracking server. The first use loads MLflow, which takes 2 s and 150 MB."""
        from sweeptrail.tracking.client import TrackingServer

        return TrackingServer(self.uri)

    @cached_property
    def _teller(self) -> Teller:
        return Teller(self.server, self._runs)

    @property
    def answered(self) -> float:
        """When the server last accepted something new, by time.monotonic; infinite until MLflow is loaded."""
        return self._teller.answered if "_teller" in vars(self) else float("inf")

    @property
    def refusals(self) -> list[str]:
        """What the server will never accept, and why; the journal keeps it all the same."""
        return self._teller.refusals if "_teller" in vars(self) else []

    def where(self, identity: str) -> Where | None:
        """Return where a run is on the server, if it is there."""
        return self._runs.where(identity)

    def waiting(self) -> int:
        """Return how many records are not delivered yet, without asking the server."""
        return sum(len(state.read()) for state in self._runs.waiting())

    def deliver(self) -> int:
        """Deliver whatever waits; return the number of records.

        Raises DeliveryError when the server does not answer; what it had confirmed stays delivered.
        Raises BusyError while another courier delivers the same folder.
        """
        with locked(self.folder / LOCK) as was_free:
            if not was_free:
                raise BusyError(f"another process is delivering {self.folder}")
            if self._parent:
                self._find_parent(self._parent)
            path = self.folder / journal.FILE_NAME
            own_end = path.stat().st_size if path.exists() else 0  # what it says later may be of runs not listed here
            states = list(self._runs.waiting())
            ends = {state.path: state.path.stat().st_size for state in states} | {path: own_end}
            return sum(sum(self._teller.side_by_side(tasks)) for tasks in self._stages(states, ends))

    def _stages(self, states: list[DeliveryState], ends: Mapping[Path, int]) -> Iterator[list[Delivery]]:
        """Yield what is delivered side by side, each stage when the one before is over.

        The sweep's own run is there before the others, and they before a note links to them. It is closed when
        they are, beside the versions, which come one after the other because they compete.
        """
        own = [state for state in states if state.path.parent == self.folder]
        runs = [state for state in states if state.path.parent != self.folder]

        def deliveries(states: list[DeliveryState], is_due: Callable[[Entry], bool]) -> list[Delivery]:
            waiting = [state for state in states if state.offset < ends[state.path]]
            return [partial(self._empty, state, ends[state.path], is_due) for state in waiting]

        for group in (own, runs):
            without_run = [state for state in group if not state.run_id]
            yield deliveries(without_run, lambda entry: isinstance(entry, Opened))
        yield deliveries(own, lambda entry: not isinstance(entry, Closed)) + deliveries(
            runs, lambda entry: not isinstance(entry, Version)
        )
        versions = deliveries(runs, lambda entry: True)
        yield [*deliveries(own, lambda entry: True), lambda: sum(deliver() for deliver in versions)]

    def _empty(self, state: DeliveryState, end: int, is_due: Callable[[Entry], bool]) -> int:
        """Deliver what waits up to an offset, round by round as long as the first record of the next is due."""
        records = [(entry, offset) for entry, offset in state.read() if offset <= end]
        due = list(takewhile(lambda told: is_due(told[0][0]), rounds(records)))
        last = {replaceable(entry): offset for told in due for entry, offset in told}
        if not due:
            return 0
        try:
            for told in due:
                self._teller.tell(state, told, last)
                state.offset = told[-1][1]
        finally:
            state.save()
        return sum(map(len, due))

    def _find_parent(self, opened: Opened) -> None:
        """Note where the sweep's own run is, as soon as the server has it."""
        parent = self._runs.of(self.folder / journal.FILE_NAME)
        if parent.run_id:
            return
        if opened.adopt.get("uri") == without_credentials(self.uri):
            run_id: str | None = opened.adopt["run_id"]
            experiment_id = self.server.get(opened.adopt["run_id"]).info.experiment_id
        else:
            experiment_id = self.server.experiment_id(opened.experiment)
            run_id = self.server.find(experiment_id, opened.identity)
        if not run_id:
            raise DeliveryError("the sweep's own run is not on the tracking server yet")
        parent.run_id, parent.experiment_id = run_id, experiment_id
        parent.path.touch()
        parent.save()
