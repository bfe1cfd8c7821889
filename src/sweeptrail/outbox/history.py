"""What a run has left behind so far, read back from its journal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, Entry, EpochMetrics, FinalMetrics, Metrics, Opened, Params, Paused, Tags
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
    """How it ended, or that it is PAUSED; None while it is carried out, or if it never began."""
    has_begun: bool = False
    reason: str = ""
    """Why it ended as it did, when it did not finish."""
    stopped_early: str = ""
    """Why it was not taken further."""
    finished: "History | None" = None
    """What it was when it last finished, for one that was sent further later."""
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
        return self.has_begun and self.status in (None, "PAUSED")


def read_history(folder: Path, run: int) -> History:
    """Return what the journal in the folder says of the run with this number."""
    found = _Reader(run)
    for entry, _ in journal.read(folder / journal.FILE_NAME):
        found.take(entry)
        found.measure(entry)
    return found.history()


class _Reader:
    """What the records up to now add up to."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._epochs: dict[int, Epoch] = {}
        self._final: dict[str, float] = {}
        self._steps: dict[tuple[str, int], tuple[float, ...]] = {}
        self._tags: dict[str, str] = {}
        self._params: dict[str, str] = {}
        self._has_begun, self._reason, self._stopped_early, self._began, self._time = False, "", "", 0.0, 0.0
        self._status: Status | None = None
        self._finished: History | None = None

    def take(self, entry: Entry) -> None:
        """Take up what a record says of the run's beginnings and ends."""
        match entry:
            case Opened():
                self._has_begun, self._status, self._reason, self._began = True, None, "", entry.time / 1000
                self._tags.update(entry.tags)
                self._stopped_early = entry.tags.get(tags.STOPPED_EARLY, "")
            case Tags():
                self._reason = entry.values.get(tags.REASON, self._reason)
                self._stopped_early = entry.values.get(tags.STOPPED_EARLY, self._stopped_early)
            case Paused():
                self._status, self._time = "PAUSED", entry.time / 1000
            case Closed():
                self._status, self._time = entry.status, entry.time / 1000
                if entry.status == "FINISHED":
                    self._finished = replace(self.history(), finished=None)

    def measure(self, entry: Entry) -> None:
        """Take up what a record says of its numbers."""
        match entry:
            case EpochMetrics():
                self._epochs[entry.step] = epoch_of(entry, self._run)
            case FinalMetrics():
                self._final.update(entry.values)
            case Metrics():
                for name, value in entry.values.items():
                    self._steps[name, entry.step] = (*self._steps.get((name, entry.step), ()), value)
            case Params():
                self._params.update(entry.values)

    def history(self) -> History:
        """Return the story up to now."""
        return History(
            epochs=tuple(self._epochs.values()),
            metrics=dict(self._final),
            steps=dict(self._steps),
            status=self._status,
            has_begun=self._has_begun,
            reason=self._reason,
            stopped_early=self._stopped_early,
            finished=self._finished,
            time=self._time,
            duration=self._time - self._began if self._status else None,
            tags=self._tags,
            params=self._params,
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
    """Return each metric as it was at its highest step, in the order in which they were first logged."""
    found: dict[str, tuple[int, float]] = {}
    for (name, step), values in steps.items():
        if name not in found or step >= found[name][0]:
            found[name] = step, values[-1]
    return {name: value for name, (_, value) in found.items()}


def ended(index: int, name: str, params: Mapping[str, object], history: History) -> RunResult | None:
    """Return the result of a run with this history; None while it has not ended.

    One that has finished and was sent further since counts as what it was, until it has got there.
    """
    if history.finished and history.status in (None, "PAUSED", "KILLED"):
        history = history.finished
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
        stopped_early=history.stopped_early,
    )
