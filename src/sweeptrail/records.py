"""What a run is asked to do and what it leaves behind, as plain values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Value = bool | int | float | str
Status = Literal["FINISHED", "FAILED", "KILLED", "PAUSED"]
"""How a run ended; PAUSED is one that may go on in the same sitting, RUNNING for MLflow."""


@dataclass(frozen=True)
class Goal:
    """What ranks the runs of a sweep; it travels with the sweep."""

    metric: str
    greater_is_better: bool = True

    def __str__(self) -> str:
        return f"{'max' if self.greater_is_better else 'min'}:{self.metric}"

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """Return what `max:NAME` or `min:NAME` stands for; raises ValueError."""
        direction, _, metric = text.partition(":")
        if direction not in ("max", "min") or not metric:
            raise ValueError(f"expected max:NAME or min:NAME, got {text!r}")
        return cls(metric, direction == "max")

    def rank(self, value: float) -> tuple[bool, float]:
        """Return what sorts values, the best first; nan comes last."""
        if math.isnan(value):
            return True, 0.0
        return False, -value if self.greater_is_better else value


@dataclass(frozen=True)
class Job:
    """One run to carry out; everything that a worker is told about it."""

    index: int
    """Its number in the sweep, from 1."""
    name: str
    """What people see: `1_lr=0.01,batch_size=100,shuffle=True`; also the name of its folder."""
    params: Mapping[str, Any]
    """The hyperparameters that distinguish this run: the columns of the results table."""
    settings: Mapping[str, Any]
    """What else it is carried out with."""
    folder: str
    """The run's own folder on disk."""
    key: str = ""
    """What the run is recognised by: a hash of all that changes its numbers."""
    parent: str = ""
    """The identity of the sweep."""
    tags: Mapping[str, str] = field(default_factory=dict)
    sinks: tuple[str, ...] = ()
    """Names of the sinks that are built where the run is carried out."""
    epochs: int | None = None
    """How many are planned, when that is known."""
    pause_after: int | None = None
    """The epoch after which it pauses; None for a run that goes to its end."""
    former_keys: tuple[str, ...] = ()
    """Those it had when it was asked for fewer epochs: their checkpoints are its own."""
    threads: int = 1
    cost: float = 0.0
    """How long it may take, in units of the task's own: the longest begins first."""

    @property
    def values(self) -> dict[str, Any]:
        """All that it is carried out with."""
        return {**self.settings, **self.params}


@dataclass(frozen=True)
class RunStart:
    """A run began."""

    index: int
    name: str
    params: Mapping[str, Any]
    """The hyperparameters that distinguish this run: the columns of the results table."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the run was carried out with."""
    epochs: int | None = None
    """How many epochs are planned, when that is known."""
    resumed_after: int = 0
    """How many epochs were completed before; the sinks are told of them again, and know them."""
    time: float = 0.0
    """Seconds since 1970."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run was completed."""

    run: int
    epoch: int
    """From 1."""
    loss: float | None
    """Mean over the samples of the epoch, not over its batches; None where nobody counts it."""
    accuracy: float | None
    """Correct predictions divided by samples, between 0 and 1; None where nobody counts them."""
    epoch_duration: float
    """Seconds."""
    run_duration: float
    """Seconds since the run began."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further metrics of the epoch, `validation_loss` for one."""
    time: float = 0.0
    """Seconds since 1970."""

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the epoch under the names that the tracking server gets."""
        counted = {"loss": self.loss, "accuracy": self.accuracy}
        return {
            **{name: value for name, value in counted.items() if value is not None},
            "epoch_duration": self.epoch_duration,
            "run_duration": self.run_duration,
            **self.extra,
        }


@dataclass(frozen=True)
class RunResult:
    """A run ended, well or not; everything that a worker answers with."""

    index: int
    name: str
    params: Mapping[str, Any]
    status: Status
    epochs: tuple[Epoch, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured once, at the end: `test_loss`, `test_accuracy`."""
    error: str | None = None
    """The traceback of whatever ended the run early."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the run: a sink that had to be dropped."""
    time: float = 0.0
    """Seconds since 1970, when it ended."""
    duration: float | None = field(default=None, compare=False)
    """Seconds it took in its last sitting; None where nobody has counted them."""
    latest: Mapping[str, float] = field(default_factory=dict)
    """What was logged by steps, each metric as it was at its highest step."""
    stopped_early: str = ""
    """Why a FINISHED run was not taken further, `after 3 epochs, place 5 of 8`; empty for one that is whole."""

    @property
    def finals(self) -> dict[str, float]:
        """What the run has reached: a metric's final value, else its last epoch's, else that of its highest step."""
        return {**self.latest, **(self.epochs[-1].metrics if self.epochs else {}), **self.metrics}

    @property
    def reason(self) -> str:
        """The last line of the error, which names it; empty when there is none."""
        return (self.error or "").strip().rpartition("\n")[2]
