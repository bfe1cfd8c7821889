"""What a run has left behind so far, read back from its journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, EpochMetrics, FinalMetrics, Opened, Params, Tags
from sweeptrail.records import Epoch, RunResult, Status
from sweeptrail.tracking import tags

COLUMNS = ("loss", "accuracy", "epoch_duration", "run_duration")
"""The metrics that an Epoch has as attributes."""


@dataclass(frozen=True)
class History:
    """The story of one run up to now."""

    epochs: tuple[Epoch, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured once, at the end."""
    status: Status | None = None
    """How it ended; None while it is open, or if it never began."""
    has_begun: bool = False
    reason: str = ""
    """Why it ended as it did, when it did not finish."""
    time: float = 0.0
    """Seconds since 1970, when it ended."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Those with which it was opened."""
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it has begun, or gone on, and not ended."""
        return self.has_begun and self.status is None


def read_history(folder: Path, run: int) -> History:
    """Return what the journal in the folder says of the run with this number."""
    epochs: dict[int, Epoch] = {}
    final: dict[str, float] = {}
    opened_with: dict[str, str] = {}
    params: dict[str, str] = {}
    has_begun, reason, time = False, "", 0.0
    status: Status | None = None
    for entry, _ in journal.read(folder / journal.FILE_NAME):
        match entry:
            case Opened():
                has_begun, status, reason = True, None, ""
                opened_with.update(entry.tags)
            case EpochMetrics():
                epochs[entry.step] = epoch_of(entry, run)
            case FinalMetrics():
                final.update(entry.values)
            case Params():
                params.update(entry.values)
            case Tags():
                reason = entry.values.get(tags.REASON, reason)
            case Closed():
                status, time = entry.status, entry.time / 1000
    return History(tuple(epochs.values()), final, status, has_begun, reason, time, opened_with, params)


def epoch_of(entry: EpochMetrics, run: int) -> Epoch:
    """Return the epoch that a record of its metrics describes."""
    columns = {name: entry.values[name] for name in COLUMNS}
    extra = {name: value for name, value in entry.values.items() if name not in COLUMNS}
    return Epoch(run=run, epoch=entry.step, extra=extra, time=entry.time / 1000, **columns)


def ended(index: int, name: str, params: Mapping[str, object], history: History) -> RunResult | None:
    """Return the result of a run with this history; None while it has not ended."""
    if history.status is None:
        return None
    return RunResult(
        index=index,
        name=name,
        params=params,
        status=history.status,
        epochs=history.epochs,
        metrics=history.metrics,
        error=history.reason or None,
        time=history.time,
    )
