"""Where the facts of a run go: each sink is told what happened and never talks back."""

from typing import TYPE_CHECKING, Any, Protocol

from sweeptrail.records import Epoch, RunResult, RunStart

if TYPE_CHECKING:
    from torch import nn


class Sink(Protocol):
    """Something that keeps or shows the facts of runs, one run at a time."""

    def begin(self, start: RunStart, network: "nn.Module", loader: Any) -> None:
        """A run begins; `loader` is any iterable of batches with `dataset` and `batch_size`."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch of the run is complete; the network holds its weights and last gradients."""

    def end(self, result: RunResult) -> None:
        """The run is over, in whatever way; not called when `begin` or `epoch` raised."""
