"""Tells the tracking server what a round of one journal's records says, and sees that it has got it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweeptrail.errors import RefusedError, WaitsError
from sweeptrail.outbox.delivery.batching import Logged, Record, batches, replaceable
from sweeptrail.outbox.delivery.opening import run_id_of
from sweeptrail.outbox.delivery.requests import Requests
from sweeptrail.outbox.delivery.runs import KnownRuns
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Artifact, Closed, Opened
from sweeptrail.tracking.facts import Expected

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer

CONNECTIONS = 4
"""How many journals are delivered at a time to a server, and how many files of each; a database is told one by one."""

REQUESTS = 6
"""How many records are told at a time, a closing by two requests; MLflow's client warns from ten connections on."""

Answer = TypeVar("Answer")


class Teller:
    """Tells one server; several threads may tell at a time, each of another journal."""

    def __init__(self, server: "TrackingServer", runs: KnownRuns) -> None:
        self.answered = time.monotonic()
        """When the server last accepted something new."""
        self._server = server
        self._refused: dict[tuple[Path, int, str], str] = {}
        self._requests = Requests(server, runs)
        self._slots = threading.BoundedSemaphore(REQUESTS)

    @property
    def refusals(self) -> list[str]:
        """What the server will never accept, and why."""
        return [self._refused[record] for record in sorted(self._refused)]

    def tell(self, state: DeliveryState, records: list[Record], last: Mapping[tuple[str, ...], int]) -> None:
        """Tell a round, its files beside the rest, and see that the run has got it.

        `last` has the offset of the last record of each that replaces those before it.
        """
        needed = [record for record in records if self._is_needed(state, record, last)]
        files = [(entry, offset) for entry, offset in needed if isinstance(entry, Artifact)]
        others = [record for record in needed if not isinstance(record[0], Artifact)]
        told = Expected()
        new = [(entry, offset) for entry, offset in files if not state.sent.has(entry, offset)]
        uploads = [
            partial(self._try, state, (entry, offset), partial(self._requests.upload, state, entry, offset))
            for entry, offset in new
        ]
        self.side_by_side([partial(self._tell_facts, state, told, others), *uploads])
        sizes = state.sent.take()  # what the server does not show now is sent again
        checks = [partial(self._requests.confirm_files, state, *where, found) for where, found in sizes.items()]
        if told:
            checks.append(partial(self._server.confirm, run_id_of(state), told))
        self.side_by_side([partial(self._confirm, state, check) for check in checks])
        state.taken.clear()

    def side_by_side(self, tasks: Sequence[Callable[[], Answer]]) -> list[Answer]:
        """Return what the tasks return; over the network they run at the same time, since each answer is late."""
        waiting, answers, errors = deque(tasks), list[Answer](), list[BaseException]()

        def work() -> None:
            with suppress(IndexError):  # nothing waits any more
                while not errors:
                    task = waiting.popleft()
                    try:
                        answers.append(task())
                    except BaseException as error:
                        errors.append(error)

        if len(tasks) > 1 and self._server.is_remote:
            # Daemons, unlike those of a pool: a request that hangs must not keep the process from ending.
            threads = [threading.Thread(target=work, daemon=True) for _ in tasks[:CONNECTIONS]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            work()
        if errors:
            raise errors[0]
        return answers

    def _is_needed(self, state: DeliveryState, record: Record, last: Mapping[tuple[str, ...], int]) -> bool:
        """Leave out what a later record replaces, and files that were uploaded a moment ago and still grow."""
        entry, offset = record
        if not (replaced := replaceable(entry)):
            return True
        is_early = isinstance(entry, Artifact) and entry.growing and self._requests.was_just_uploaded(state, entry)
        return last[replaced] == offset and not is_early

    def _tell_facts(self, state: DeliveryState, told: Expected, records: list[Record]) -> None:
        """Tell what is no file, one request after the other, so that a later tag replaces an earlier one."""
        for batch in batches(records):
            self._confirm_metrics(state, told)
            try:
                with self._slots:
                    self._requests.log(state, told, [entry for entry, _ in batch])
                self._note_life(state, *(offset for _, offset in batch))
            except RefusedError:
                for entry, offset in batch:
                    self._try(state, (entry, offset), partial(self._requests.log, state, told, [entry]))
        for entry, offset in records:
            if isinstance(entry, Closed):
                self._try(state, (entry, offset), partial(self._close, state, entry))
            elif not isinstance(entry, Logged):
                self._try(state, (entry, offset), partial(self._requests.carry_out, state, told, entry))

    def _confirm_metrics(self, state: DeliveryState, told: Expected) -> None:
        """See that the run has got the metrics of a request before the next one hides them.

        A run shows one value of a name; all of them are read only where that must be, since they may be a million.
        """
        if told.metrics:
            with self._slots:
                self._server.confirm(run_id_of(state), Expected(told.metrics))
            told.metrics = []

    def _close(self, state: DeliveryState, entry: Closed) -> None:
        self.side_by_side(self._requests.close(state, entry))

    def _try(self, state: DeliveryState, record: Record, action: Callable[[], None]) -> None:
        """Do what a record asks for; that the server will never accept it is noted, and ends the matter."""
        entry, offset = record
        try:
            with self._slots:
                action()
        except RefusedError as error:
            if isinstance(entry, Opened):  # without its run everything else would be refused as well: that waits
                raise WaitsError(str(error)) from error
            self._refuse(state, offset, entry.kind, error)
        self._note_life(state, offset)

    def _confirm(self, state: DeliveryState, check: Callable[[], None]) -> None:
        try:
            with self._slots:
                check()
        except RefusedError as error:
            self._refuse(state, state.offset, "confirmation", error)
        self._note_life(state, state.offset)

    def _refuse(self, state: DeliveryState, offset: int, kind: str, error: RefusedError) -> None:
        self._refused[state.path, offset, kind] = f"{kind} of {state.path.parent.name}: {error}"

    def _note_life(self, state: DeliveryState, *offsets: int) -> None:
        """Note that the server lives when it has taken what it had not before.

        A server may take one record of a round again and again, and fail at another for ever.
        """
        if not state.taken.issuperset(offsets):
            state.taken.update(offsets)
            self.answered = time.monotonic()
