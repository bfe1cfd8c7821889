"""Where the facts of a run go: each sink is told what happened and never talks back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.records import Epoch, RunResult, RunStart

if TYPE_CHECKING:
    from torch import nn


class Sink:
    """Something that keeps or shows the facts of runs, one run at a time; each does what it has a use for."""

    is_vital = False
    """Whether a run must not go on when the sink has failed: it keeps what must not be lost."""
    remarks: Sequence[str] = ()
    """What a person should know of the run that is open."""

    def begin(self, start: RunStart) -> None:
        """A run begins, or goes on."""

    def watch(self, network: "nn.Module | None", loader: Any, *, known_epochs: int) -> None:
        """The loop of the run begins, after so many epochs of an earlier sitting, which are told again.

        `loader` is any iterable of batches; both may be None.
        """

    def epoch(self, epoch: Epoch) -> None:
        """An epoch of the run is complete; the network holds its weights and last gradients."""

    def measure(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Something was measured at a step of the task's own; the time is in seconds since 1970."""

    def add_artifact(self, path: Path, to: str) -> None:
        """A file in the run's folder belongs to its artifacts, in the folder `to` of them."""

    def end(self, result: RunResult) -> None:
        """The run is over, in whatever way; not called when one of the others raised."""
