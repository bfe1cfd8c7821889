"""What a run has left behind so far, read back from its journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.records import Epoch, Job, RunResult, Status

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

    @property
    def is_open(self) -> bool:
        """Whether it has begun, or gone on, and not ended."""
        return self.has_begun and self.status is None


def read_history(folder: Path, run: int) -> History:
    """Return what the journal in the folder says of the run with this number."""
    epochs: dict[int, Epoch] = {}
    final: dict[str, float] = {}
    has_begun, reason, time = False, "", 0.0
    status: Status | None = None
    for entry, _ in journal.read(folder / journal.FILE_NAME):
        match entry["kind"]:
            case "opened":
                has_begun, status, reason = True, None, ""
            case "metrics" if "loss" in entry["values"]:
                epochs[entry["step"]] = epoch_of(entry, run)
            case "metrics":
                final.update(entry["values"])
            case "tags":
                reason = entry["values"].get("sweeptrail.reason", reason)
            case "closed":
                status, time = entry["status"], entry["time"] / 1000
    return History(tuple(epochs.values()), final, status, has_begun, reason, time)


def epoch_of(entry: journal.Entry, run: int) -> Epoch:
    """Return the epoch that a record of its metrics describes."""
    columns = {name: entry["values"][name] for name in COLUMNS}
    extra = {name: value for name, value in entry["values"].items() if name not in COLUMNS}
    return Epoch(run=run, epoch=entry["step"], extra=extra, time=entry["time"] / 1000, **columns)


def result_of(job: Job, history: History) -> RunResult:
    """Return the result of a job that has ended."""
    assert history.status
    return RunResult(
        job.index, job.name, job.params, history.status, history.epochs, history.metrics,
        error=history.reason or None, time=history.time,
    )  # fmt: skip
