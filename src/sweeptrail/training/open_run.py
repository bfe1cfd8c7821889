"""One run from its beginning to its end: what was counted, and the sinks that hear of it."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.training.counts import Counts
from sweeptrail.training.sinks.group import Sinks


class OpenRun:
    """A run that has begun and not ended."""

    def __init__(self, start: RunStart, sinks: Sinks, folder: Path | None) -> None:
        """Tell the sinks that the run begins. `folder` is its own; None where nothing is kept."""
        self.start = start
        self.folder = folder
        self.epochs: list[Epoch] = []
        self.finals: dict[str, float] = {}
        """What was measured once, outside of epochs."""
        self.latest: dict[str, tuple[int, float]] = {}
        """Of each metric that was logged by steps the highest step, and its value there."""
        self.counts = Counts()
        """Of the last epoch that has begun."""
        self.is_in_epoch = False
        self._sinks = sinks
        self._began = time.perf_counter()
        sinks.begin(start)

    def watch(self, network: Any, loader: Any, known: Iterable[Epoch] = ()) -> None:
        """Tell the sinks what the loop trains, and the epochs of an earlier sitting, which they may know."""
        known = list(known)
        self._sinks.watch(self.start, network, loader, known_epochs=len(known))
        for epoch in known:
            self.epochs.append(epoch)
            self._sinks.epoch(epoch)
        self._began -= known[-1].run_duration if known else 0

    def begin_epoch(self) -> None:
        """Begin to count."""
        self.counts, self._extra, self.is_in_epoch = Counts(), dict[str, float](), True
        self._epoch_began = time.perf_counter()

    def end_epoch(self) -> Epoch:
        """Complete the epoch, and tell the sinks."""
        now = time.perf_counter()
        epoch = Epoch(
            run=self.start.index,
            epoch=len(self.epochs) + 1,
            loss=self._extra.pop("loss", self.counts.loss),
            accuracy=self._extra.pop("accuracy", self.counts.accuracy),
            epoch_duration=now - self._epoch_began,
            run_duration=now - self._began,
            extra=self._extra,
            time=time.time(),
        )
        self.is_in_epoch = False
        self.epochs.append(epoch)
        self._sinks.epoch(epoch)
        return epoch

    def log(self, values: Mapping[str, float]) -> None:
        """Add to the epoch that has begun, or to the final values."""
        (self._extra if self.is_in_epoch else self.finals).update(values)

    def measure(self, values: Mapping[str, float], step: int, moment: float) -> None:
        """Tell what was measured at a step; the moment is in seconds since 1970."""
        for name, value in values.items():
            if name not in self.latest or step >= self.latest[name][0]:
                self.latest[name] = step, value
        self._sinks.measure(values, step, moment)

    def add_artifacts(self, files: Iterable[tuple[Path, str]]) -> None:
        """Tell of files in the run's folder, and of the folders of the artifacts they belong to."""
        for path, to in files:
            self._sinks.add_artifact(path, to)

    def result(self, status: Status, error: str | None) -> RunResult:
        """Return what the run has reached."""
        return RunResult(
            index=self.start.index,
            name=self.start.name,
            params=self.start.params,
            status=status,
            epochs=tuple(self.epochs),
            metrics=self.finals,
            error=error,
            time=time.time(),
            duration=time.perf_counter() - self._began,
            latest={name: value for name, (_, value) in self.latest.items()},
        )

    def end(self, status: Status, error: str | None) -> RunResult:
        """Tell the sinks how the run ended; return its result, with all warnings."""
        return self._sinks.end(self.result(status, error))
