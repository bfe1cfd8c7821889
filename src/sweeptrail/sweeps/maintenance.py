"""What can be done with the folders of sweeps afterwards: deliver, look, close what a dead process left open."""

import time
from dataclasses import dataclass
from pathlib import Path

from sweeptrail.errors import BusyError, DeliveryError, SettingsError
from sweeptrail.outbox import journal, sweep_folder
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.history import read_history
from sweeptrail.outbox.machine.place import outboxes
from sweeptrail.outbox.parent_journal import close_abandoned_parent
from sweeptrail.outbox.run_journal import close_open_runs
from sweeptrail.outbox.sweep_folder import LOCK
from sweeptrail.system.locks import is_locked, locked

ABANDONED = "its process died"


@dataclass(frozen=True)
class Condition:
    """How a sweep stands, as its folder tells it."""

    folder: Path
    status: str
    """RUNNING while a process carries it out; DEAD if that is gone and left it open."""
    runs: dict[str, int]
    """How many runs have each status; OPEN for those that are not over."""
    tracking_uri: str
    waiting: int
    """How many records the tracking server has not got."""


def sweeps(folder: Path) -> list[Path]:
    """Return the folders of the sweeps in a folder; raises SettingsError if there are none."""
    found = list(sweep_folder.sweep_folders(folder))
    if not found:
        raise SettingsError(
            f"{folder}: expected the folder of a sweep, or one that holds such folders; write runs, say, or runs/SWEEP"
        )
    return found


def looked_after(folder: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the sweeps and the outboxes in a folder; without one those in `runs`, and all outboxes of this machine.

    Raises SettingsError if there are none.
    """
    found = outboxes(folder)
    if folder is None and found:
        return list(sweep_folder.sweep_folders(Path("runs"))), found
    return ([], found) if found else (sweeps(folder or Path("runs")), [])


def condition(folder: Path) -> Condition:
    """Return how a sweep stands."""
    sweep = sweep_folder.read(folder)
    counts: dict[str, int] = dict.fromkeys(("FINISHED", "FAILED", "KILLED", "PAUSED", "OPEN", "MISSING"), 0)
    begun = 0
    for path in folder.glob(f"*/{journal.FILE_NAME}"):
        if not path.parent.name.startswith("resumption-"):
            counts[read_history(path.parent, 0).status or "OPEN"] += 1
            begun += 1
    counts["MISSING"] = max(0, len(sweep.runs) - begun)
    parent = read_history(folder, 0)
    status = parent.status or ("RUNNING" if is_locked(folder / LOCK) else "DEAD")
    waiting = Courier(sweep.tracking_uri, folder).waiting()
    return Condition(folder, status, {name: n for name, n in counts.items() if n}, sweep.tracking_uri, waiting)


def sync(folder: Path, tracking_uri: str, *, patience: float = 10.0) -> tuple[int, list[str]]:
    """Deliver what waits in a sweep's folder; return how many records that were, and what was refused for good.

    An empty `tracking_uri` stands for the server that the sweep has reported to. Raises
    DeliveryError when the server takes nothing for `patience` seconds.
    """
    courier = Courier(tracking_uri or sweep_folder.read(folder).tracking_uri, folder)
    delivered, failing_since, pause = 0, time.monotonic(), 0.1
    while waiting := courier.waiting():
        try:
            delivered += courier.deliver()
            failing_since = time.monotonic()
        except BusyError:  # whoever delivers has a patience of its own
            failing_since = time.monotonic()
            time.sleep(pause)
        except DeliveryError as error:
            if time.monotonic() - failing_since > patience:
                raise DeliveryError(f"{waiting} records of {folder} wait: {error}") from error
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
    return delivered, courier.refusals


def reap(folder: Path) -> int | None:
    """Close what a process that died has left open in a sweep's folder; return how many runs that were.

    None if a process is at work there, or nothing was open.
    """
    with locked(folder / LOCK) as was_free:
        if not was_free or not read_history(folder, 0).is_open:
            return None
        closed = close_open_runs(folder, ABANDONED)
        close_abandoned_parent(folder, ABANDONED)
    return closed
