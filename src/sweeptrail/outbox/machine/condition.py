"""How an outbox of this machine stands, without asking its server: its runs, what waits, and who delivers it."""

from dataclasses import dataclass
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Closed, Opened
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.machine.facts import Life, RunFacts
from sweeptrail.outbox.machine.place import LOCK, Place
from sweeptrail.outbox.machine.writers import writers
from sweeptrail.system.locks import is_locked
from sweeptrail.tracking.tags import RUN_NAME

TAIL = 1 << 16
"""Bytes at the end of a journal in which a run that has ended says so."""

WINDOW = 1 << 20
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class RunCondition:
    """A run, or a logged model without one, as this machine knows it."""

    run_id: str
    """By which it goes here."""
    server_id: str
    """Empty while it is not on the server."""
    name: str
    status: str
    """As MLflow has it; DEAD when its process was killed and left it open, LEFT when that ended well and did so,
    ADOPTED when it was begun elsewhere and only the server knows how it stands."""
    waiting: int
    """How many of its records the server has not got."""


@dataclass(frozen=True)
class Condition:
    """An outbox."""

    place: Place
    num_runs: int
    runs: tuple[RunCondition, ...]
    """Those that are open or not delivered whole, unless all were asked for, by when they began."""
    waiting: int
    """How many records the server has not got."""
    is_delivering: bool
    """Whether a process is there that delivers it."""


def condition(place: Place, *, all_runs: bool = False) -> Condition:
    """Return how an outbox stands, with those of its runs that need attention, or all."""
    found = list(writers(place.folder))
    living = {run for writer in found if writer.is_alive for run in writer.runs}
    killed = {run for writer in found if not (writer.is_alive or writer.has_left) for run in writer.runs}
    runs, num_runs = list[tuple[int, RunCondition]](), 0
    waiting = _num_waiting(DeliveryState(place.folder / FILE_NAME, place.uri))
    for path in place.folder.glob(f"[!.]*/{FILE_NAME}"):
        run_id, state = path.parent.name, DeliveryState(path, place.uri)
        num_runs += not run_id.startswith("m-")  # a logged model without a run
        waits = _num_waiting(state)
        waiting += waits
        if all_runs or waits or not _is_over(path):
            facts = RunFacts(path).refresh()
            status = _status(facts, is_alive=run_id in living, is_killed=run_id in killed)
            begun = facts.opened.time if facts.opened else 0
            runs.append((begun, RunCondition(run_id, _server_id(state), _name(facts), status, waits)))
    shown = tuple(run for _, run in sorted(runs, key=lambda each: (each[0], each[1].run_id)))
    return Condition(place, num_runs, shown, waiting, is_locked(place.folder / LOCK))


def _num_waiting(state: DeliveryState) -> int:
    """Return how many records of a journal wait; that may be millions, so they are not read."""
    if not state.path.exists() or not state.has_more():
        return 0
    with state.path.open("rb") as file:
        file.seek(state.offset)
        return sum(data.count(b"\n") for data in iter(lambda: file.read(WINDOW), b""))


def _is_over(path: Path) -> bool:
    """Tell whether a run has ended, or it is a model's journal; where the end of it says so, no more is read."""
    records = journal.read(path, max(0, path.stat().st_size - TAIL))  # a line that is cut there is passed over
    last = next((entry for entry, _ in reversed(records) if isinstance(entry, Opened | Closed)), None)
    return isinstance(last, Closed) or not Life(path).refresh().is_running


def _server_id(state: DeliveryState) -> str:
    return state.run_id or state.models.get(state.path.parent.name, "")


def _name(facts: RunFacts) -> str:
    if facts.opened:
        return facts.tags.get(RUN_NAME, facts.opened.name)
    return next((model.made.name for model in facts.models.values()), "")


def _status(facts: RunFacts, *, is_alive: bool, is_killed: bool) -> str:
    if facts.opened is None:
        return "MODEL"
    if facts.is_running:
        return "RUNNING" if is_alive else "DEAD" if is_killed else "LEFT"
    return facts.status if facts.end_time is not None else "ADOPTED"
