"""Several sinks as one, and the one rule for those that fail."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.sink import Sink
from sweeptrail.system.extras import need


class Sinks:
    """Tells every sink.

    One that fails to begin stops the run before any compute is spent. One that fails later is
    dropped, with a warning in the result, and the run goes on; but a vital one, which cannot keep
    what must not be lost, fails the run. At the end every sink is told.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._open: list[Sink] = []
        self.warnings: list[str] = []

    @property
    def writer(self) -> Any:
        """The open SummaryWriter of the sink that has one, else None.

        Raises MissingPackageError where none can have one.
        """
        found = next((writer for sink in self._open if (writer := getattr(sink, "writer", None))), None)
        if not found:
            need("RunManager.tb", "torch", "tensorboard")
        return found

    def begin(self, start: RunStart) -> None:
        self._open, self.warnings = [], []
        for sink in self._sinks:
            with self._ending_after_an_error(start):
                sink.begin(start)
            self._open.append(sink)

    def watch(self, start: RunStart, network: Any, loader: Any, *, known_epochs: int) -> None:
        with self._ending_after_an_error(start):
            for sink in self._open:
                sink.watch(network, loader, known_epochs=known_epochs)

    def epoch(self, epoch: Epoch) -> None:
        self._tell(lambda sink: sink.epoch(epoch), f"at epoch {epoch.epoch}")

    def measure(self, values: Mapping[str, float], step: int, time: float) -> None:
        self._tell(lambda sink: sink.measure(values, step, time), f"at step {step}")

    def add_artifact(self, path: Path, to: str) -> None:
        self._tell(lambda sink: sink.add_artifact(path, to), f"at {path.name}")

    def end(self, result: RunResult) -> RunResult:
        """Tell every sink that had begun and not failed; return the result with all warnings.

        It is FAILED if a vital sink could not keep it.
        """
        for sink in self._open:
            result = replace(result, warnings=self._all_warnings())
            try:
                sink.end(result)
            except Exception as error:
                if sink.is_vital:
                    result = replace(result, status="FAILED", error=result.error or f"{type(error).__name__}: {error}")
                self.warnings.append(f"{type(sink).__name__} stopped at the end: {error}")
        result = replace(result, warnings=self._all_warnings())
        self._open = []
        return result

    def _all_warnings(self) -> tuple[str, ...]:
        return (*self.warnings, *(remark for sink in self._open for remark in sink.remarks))

    def _tell(self, tell: Callable[[Sink], None], when: str) -> None:
        for sink in list(self._open):
            try:
                tell(sink)
            except Exception as error:
                if sink.is_vital:
                    raise
                self._open.remove(sink)
                self.warnings.append(f"{type(sink).__name__} stopped {when}: {error}")

    @contextlib.contextmanager
    def _ending_after_an_error(self, start: RunStart) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            result = RunResult(start.index, start.name, start.params, "FAILED", error=reason, time=start.time)
            with contextlib.suppress(Exception):  # the error that is under way says more
                self.end(result)
            raise
