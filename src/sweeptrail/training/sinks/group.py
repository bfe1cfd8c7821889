"""Several sinks as one, and the one rule for those that fail."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweeptrail.errors import SweeptrailError
from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.training.sinks import Sink


class Sinks:
    """Tells every sink.

    One that fails to begin stops the run before any compute is spent. One that fails later is
    dropped, with a warning in the result, and the run goes on; but one that raises an error of our
    own cannot keep what must not be lost, and stops the run. At the end every sink is told.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._open: list[Sink] = []
        self.warnings: list[str] = []

    @property
    def writer(self) -> Any:
        """The open SummaryWriter of the sink that has one, else None."""
        return next((writer for sink in self._open if (writer := getattr(sink, "writer", None))), None)

    def begin(self, start: RunStart, network: Any, loader: Any) -> None:
        self._open, self.warnings = [], []
        for sink in self._sinks:
            try:
                sink.begin(start, network, loader)
            except BaseException as error:
                reason = f"{type(error).__name__}: {error}"
                result = RunResult(start.index, start.name, start.params, "FAILED", error=reason, time=start.time)
                with contextlib.suppress(Exception):  # the error that is under way says more
                    self.end(result)
                raise
            self._open.append(sink)

    def epoch(self, epoch: Epoch) -> None:
        for sink in list(self._open):
            try:
                sink.epoch(epoch)
            except SweeptrailError:
                raise
            except Exception as error:
                self._open.remove(sink)
                self.warnings.append(f"{type(sink).__name__} stopped at epoch {epoch.epoch}: {error}")

    def end(self, result: RunResult) -> RunResult:
        """Tell every sink that had begun and not failed; return the result with all warnings."""
        for sink in self._open:
            result = replace(result, warnings=tuple(self.warnings))
            try:
                sink.end(result)
            except Exception as error:
                self.warnings.append(f"{type(sink).__name__} stopped at the end: {error}")
        self._open = []
        return replace(result, warnings=tuple(self.warnings))
