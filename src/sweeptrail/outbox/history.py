"""What a run has left behind so far, read back from its journal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, EpochMetrics, FinalMetrics, Metrics, Opened, Params, Tags
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
    steps: Mapping[tuple[str, int], tuple[float, ...]] = field(default_factory=dict)
    """What was logged by steps: the values of each metric at each step, mostly one."""
    status: Status | None = None
    """How it ended; None while it is open, or if it never began."""
    has_begun: bool = False
    reason: str = ""
    """Why it ended as it did, when it did not finish."""
    time: float = 0.0
    """Seconds since 1970, when it ended."""
    duration: float | None = None
    """Seconds that its last sitting took; None while it is open."""
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
    steps: dict[tuple[str, int], tuple[float, ...]] = {}
    opened_with: dict[str, str] = {}
    params: dict[str, str] = {}
    has_begun, reason, began, time = False, "", 0.0, 0.0
    status: Status | None = None
    for entry, _ in journal.read(folder / journal.FILE_NAME):
        match entry:
            case Opened():
                has_begun, status, reason, began = True, None, "", entry.time / 1000
                opened_with.update(entry.tags)
            case EpochMetrics():
                epochs[entry.step] = epoch_of(entry, run)
            case FinalMetrics():
                final.update(entry.values)
            case Metrics():
                for name, value in entry.values.items():
                    steps[name, entry.step] = (*steps.get((name, entry.step), ()), value)
            case Params():
                params.update(entry.values)
            case Tags():
                reason = entry.values.get(tags.REASON, reason)
            case Closed():
                status, time = entry.status, entry.time / 1000
    duration = time - began if status else None
    return History(
        epochs=tuple(epochs.values()),
        metrics=final,
        steps=steps,
        status=status,
        has_begun=has_begun,
        reason=reason,
        time=time,
        duration=duration,
        tags=opened_with,
        params=params,
    )


def epoch_of(entry: EpochMetrics, run: int) -> Epoch:
    """Return the epoch that a record of its metrics describes."""
    return make_epoch(run, entry.step, entry.values, entry.time / 1000)


def make_epoch(run: int, number: int, values: Mapping[str, float], time: float = 0.0) -> Epoch:
    """Return the epoch with these metrics; durations that nobody knows are nan."""
    return Epoch(
        run=run,
        epoch=number,
        loss=values.get("loss"),
        accuracy=values.get("accuracy"),
        epoch_duration=values.get("epoch_duration", math.nan),
        run_duration=values.get("run_duration", math.nan),
        extra={name: value for name, value in values.items() if name not in COLUMNS},
        time=time,
    )


def latest(steps: Mapping[tuple[str, int], tuple[float, ...]]) -> dict[str, float]:
    """Return each metric as it was at its highest step."""
    return {name: values[-1] for (name, _), values in sorted(steps.items())}


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
        latest=latest(history.steps),
        error=history.reason or None,
        time=history.time,
        duration=history.duration,
    )
