"""Delivers the outbox of this machine, run by run: what the server refuses of one keeps no other waiting."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sweeptrail.errors import DeliveryError, RefusedError, SweeptrailError, WaitsError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.batching import replaceable, rounds
from sweeptrail.outbox.delivery.runs import MODELS, KnownRuns
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.delivery.telling import Teller
from sweeptrail.outbox.entries import Closed, milliseconds
from sweeptrail.outbox.machine.condition import condition
from sweeptrail.outbox.machine.experiments import Experiments
from sweeptrail.outbox.machine.facts import Life
from sweeptrail.outbox.machine.place import COPIES, LOCK, LOG, SERVER_IDS, WAKE, Place
from sweeptrail.outbox.machine.shared_journal import SharedJournal
from sweeptrail.outbox.machine.writers import FoundWriter, writers
from sweeptrail.outbox.run_journal import ARTIFACTS
from sweeptrail.system.files import write_whole
from sweeptrail.system.locks import locked

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer

WINDOW = 1 << 17
"""Bytes of a journal that are delivered in one go, about the 1,000 metrics of one request."""

SYNC_INTERVAL = 1.0
"""Seconds between two syncs of the journals to disk: a power cut loses so much, a kill nothing."""


class Deliverer:
    """Delivers one outbox; whoever calls it holds its lock."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problem = ""
        """What kept the last round from being whole."""
        self._runs = KnownRuns(place.uri, place.folder)
        self._experiments = Experiments(place.folder)
        self._lives: dict[Path, Life] = {}
        self._synced: dict[Path, int] = {}
        self._sync_time = 0.0
        self._noted: set[str] = set()

    @cached_property
    def _server(self) -> "TrackingServer":
        from sweeptrail.tracking.client import TrackingServer  # loads MLflow, which takes 2 s

        return TrackingServer(self.place.uri)

    @cached_property
    def _teller(self) -> Teller:
        return Teller(self._server, self._runs)

    @property
    def refusals(self) -> list[str]:
        """What the server will never accept; the journal keeps it all the same."""
        return self._teller.refusals if "_teller" in vars(self) else []

    def ends(self) -> dict[Path, int]:
        """Return up to where each journal of which something waits is written now."""
        states = self._states(list(writers(self.place.folder)))
        return {state.path: state.path.stat().st_size for state in states if _waits(state)}

    def left(self, ends: Mapping[Path, int]) -> int:
        """Return how many bytes wait before these ends."""
        states = {path: self._known(path) for path in ends}
        return sum(max(0, ends[path] - state.offset) for path, state in states.items() if _waits(state))

    def deliver(self) -> int:
        """Tell the server what waits, a window of each journal; return how many records that were.

        What went wrong with one run is in `problem`. Raises DeliveryError when the server takes nothing at all.
        """
        found = list(writers(self.place.folder))
        self.close_killed(found)
        self._sync(found)
        delivered, silent, problems = 0, 0, list[str]()
        for state in self._states(found):
            if not _waits(state):
                continue
            try:
                delivered += self._empty(state)
            except (DeliveryError, RefusedError) as error:
                problems.append(str(error))
                silent += not isinstance(error, WaitsError | RefusedError)
                if silent == 2 and not delivered:  # it is the server, not the run
                    break
        self.problem = problems[0] if problems else ""
        if problems and not delivered:
            raise DeliveryError(problems[0])
        self._clear(found)
        return delivered

    def _states(self, found: list[FoundWriter]) -> Iterator[DeliveryState]:
        """Yield the journals that somebody has written: the experiments, then the runs by when they began.

        A run comes after its parent, however that may have begun: it waits for the parent's id.
        """
        own = self.place.folder / journal.FILE_NAME
        if own.exists():
            yield self._known(own)
        paths = [self.place.journal(run) for run in dict.fromkeys(run for writer in found for run in writer.runs)]
        yield from (self._known(path) for path in sorted(filter(Path.exists, paths), key=self._rank))

    def _rank(self, path: Path, *children: Path) -> tuple[int | str, ...]:
        """Return what orders the runs: when the outermost of its parents began, then the next, then itself."""
        life = self._life(path)
        own = (life.began, path.parent.name)
        parent = self.place.journal(life.parent)
        is_child = self.place.has(life.parent) and parent not in (path, *children)  # a tag, which may be anything
        return (*self._rank(parent, path, *children), *own) if is_child else own

    def _known(self, path: Path) -> DeliveryState:
        state = self._runs.of(path)
        state.refresh()
        return state

    def _life(self, path: Path) -> Life:
        return self._lives.setdefault(path, Life(path)).refresh()

    def _empty(self, state: DeliveryState) -> int:
        """Tell one window of what waits."""
        records = state.read(WINDOW)
        told = list(rounds(records))
        last = {replaceable(entry): offset for entry, offset in records}
        try:
            for each in told:
                self._teller.tell(state, each, last)
                state.offset = each[-1][1]
        finally:
            self._note_ids(state)
            state.save()
        return len(records)

    def _note_ids(self, state: DeliveryState) -> None:
        """Have a run, and experiments, be found by their ids on the server, too."""
        while state.experiments:
            self._experiments.learn(*state.experiments.popitem())
        if state.run_id and state.run_id not in self._noted:
            write_whole(self.place.folder / SERVER_IDS / state.run_id, state.path.parent.name)
            self._noted.add(state.run_id)

    def killed(self, found: list[FoundWriter] | None = None) -> list[Path]:
        """Return the journals of the runs that were open in a process that was killed, and in none that lives."""
        found = list(writers(self.place.folder)) if found is None else found
        killed = {run for writer in found if not (writer.is_alive or writer.has_left) for run in writer.runs}
        paths = map(self.place.journal, sorted(killed - _living(found)))
        return [path for path in paths if path.exists() and self._life(path).is_running]

    def close_killed(self, found: list[FoundWriter] | None = None) -> None:
        """End these runs as KILLED."""
        for path in self.killed(found):
            written = SharedJournal(path)
            written.append(Closed("KILLED", milliseconds(time.time())))
            written.close()

    def _sync(self, found: list[FoundWriter]) -> None:
        """Have what was written survive a power cut; whoever writes does not wait for that."""
        if time.monotonic() - self._sync_time < SYNC_INTERVAL:
            return
        self._sync_time = time.monotonic()
        for path in [self.place.journal(run) for writer in found for run in writer.runs]:
            if path.exists() and (size := path.stat().st_size) != self._synced.get(path):
                self._synced[path] = size
                file = os.open(path, os.O_RDONLY)
                os.fdatasync(file)
                os.close(file)

    def _clear(self, found: list[FoundWriter]) -> None:
        """Forget the processes that are gone and have nothing waiting, and remove the copies of what is delivered."""
        for writer in found:
            if writer.is_alive or self._is_needed(writer, found):
                continue
            paths = [path for run in writer.runs if (path := self.place.journal(run)).exists()]
            removed = [self._remove_copies(path, found) for path in paths]
            if all(removed):
                writer.path.unlink(missing_ok=True)

    def _is_needed(self, writer: FoundWriter, found: list[FoundWriter]) -> bool:
        """Tell whether a process was killed whose runs others still write to: when they have left, those are over."""
        return not writer.has_left and any(
            self._life(path).is_running
            for run in set(writer.runs) & _living(found)
            if (path := self.place.journal(run)).exists()
        )

    def _remove_copies(self, path: Path, found: list[FoundWriter]) -> bool:
        """Remove a run's copies of files, which the server has; return False if it has not got everything yet."""
        with locked(path.parent / COPIES) as was_free:
            if not was_free or _waits(self._known(path)):
                return False
            if path.parent.name not in _living(found) and not self.refusals:
                for folder in (ARTIFACTS, MODELS):
                    shutil.rmtree(path.parent / folder, ignore_errors=True)
        return True

    def has_dead(self) -> bool:
        """Tell whether a process is gone whose runs are not all seen to."""
        found = list(writers(self.place.folder))
        return any(not (writer.is_alive or self._is_needed(writer, found)) for writer in found)

    def has_work(self) -> bool:
        """Tell whether something waits, or a run is open in a process that may be killed."""
        found = list(writers(self.place.folder))
        for writer in found:
            if not writer.is_alive:
                return True
            for run in writer.runs:
                path = self.place.journal(run)
                if path.exists() and self._life(path).is_running:
                    return True
        return any(map(_waits, self._states(found)))


def _living(found: list[FoundWriter]) -> set[str]:
    """Return the runs that a process which lives has written to."""
    return {run for writer in found if writer.is_alive for run in writer.runs}


def _waits(state: DeliveryState) -> bool:
    """Tell whether a record waits: what a process that was killed has written of one counts for nothing."""
    return state.has_more() and bool(state.read(1))


def sync(place: Place, *, patience: float = 10.0) -> tuple[int, list[str]]:
    """Deliver what waits, or wait for the process that does; return how many records, and what was refused for good.

    Raises DeliveryError when the server takes nothing for `patience` seconds.
    """
    deliverer, since, before = Deliverer(place), time.monotonic(), -1
    first, ends = condition(place).waiting, deliverer.ends()  # what is written meanwhile is not waited for
    while (left := deliverer.left(ends)) or deliverer.has_dead():
        if left != before:
            before, since = left, time.monotonic()
        elif time.monotonic() - since > patience:
            why = deliverer.problem or _last_words(place)
            raise DeliveryError(f"{condition(place).waiting} records of {place.folder} wait: {why}")
        with locked(place.folder / LOCK) as was_free:
            try:
                if was_free:
                    deliverer.deliver()
            except SweeptrailError as error:
                deliverer.problem = str(error)
        if not was_free:
            (place.folder / WAKE).touch()
        if not was_free or deliverer.problem:
            time.sleep(0.2)
    with locked(place.folder / LOCK) as was_free, suppress(SweeptrailError):
        if was_free:
            deliverer.deliver()  # the ids of experiments that were noted meanwhile, which nobody has to be told
    return first, deliverer.refusals


def _last_words(place: Place) -> str:
    """Return what the process that delivers has said last."""
    log = place.folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "the process that delivers does not get on"


def reap(place: Place) -> int:
    """Close, as KILLED, the open runs of processes that were killed; return how many those were."""
    deliverer = Deliverer(place)
    killed = deliverer.killed()
    with locked(place.folder / LOCK) as was_free:
        if was_free:  # else whoever delivers closes them at its next look
            deliverer.close_killed()
    return len(killed)
