"""What this machine knows of a run from its journal, read on from where it was read up to before."""

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import (
    Closed,
    Entry,
    Inputs,
    LinkedMetrics,
    Metrics,
    Model,
    ModelChange,
    NoTag,
    Opened,
    Outputs,
    Params,
    Tags,
)
from sweeptrail.tracking.tags import PARENT_RUN_ID

LIFE = re.compile(rb'[0-9a-f]{8} \{"kind":"(?:opened|closed)"')

WINDOW = 1 << 22
"""Bytes of a journal that are read at a time."""


@dataclass(frozen=True)
class Measured:
    """One measurement."""

    value: float
    time: int
    step: int
    model: str = ""
    dataset: tuple[str, str] | None = None

    @property
    def moment(self) -> tuple[int, int, float]:
        """What orders the measurements of a metric; MLflow shows the last one."""
        return self.step, self.time, self.value


@dataclass
class ModelFacts:
    """A logged model."""

    made: Model
    params: dict[str, str]
    tags: dict[str, str]
    status: str = "PENDING"
    time: int = 0
    """When it was last changed."""


@dataclass
class RunFacts:
    """What the records of a journal add up to; a journal of a model that has no run has no `opened`."""

    path: Path
    opened: Opened | None = None
    is_running: bool = False
    """Whether it was begun, or goes on, here, and has not ended."""
    status: str = "RUNNING"
    end_time: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    removed_tags: set[str] = field(default_factory=set)
    latest: dict[str, Measured] = field(default_factory=dict)
    datasets: list[Mapping[str, Any]] = field(default_factory=list)
    input_models: list[str] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    models: dict[str, ModelFacts] = field(default_factory=dict)
    offset: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def is_adopted(self) -> bool:
        """Whether it was begun elsewhere."""
        return self.opened is not None and bool(self.opened.adopt)

    def refresh(self) -> "RunFacts":
        """Take up what was written since."""
        with self._lock:
            end = self.path.stat().st_size  # others may write faster than this reads
            while self.offset < end and (found := journal.read(self.path, self.offset, WINDOW)):
                for entry, self.offset in found:
                    self._take(entry)
        return self

    def _take(self, entry: Entry) -> None:
        match entry:
            case Metrics():
                self._measure(entry)
            case Params():
                self.params.update(entry.values)
            case Tags():
                self.tags.update(entry.values)
                self.removed_tags -= entry.values.keys()
            case NoTag():
                self.tags.pop(entry.name, None)
                self.removed_tags.add(entry.name)
            case Opened():
                self._open(entry)
            case Closed():
                self.is_running, self.status, self.end_time = False, entry.status, entry.time
            case _:
                self._take_more(entry)

    def _measure(self, entry: Metrics) -> None:
        for name, measured in measurements(entry):
            known = self.latest.get(name)
            if known is None or measured.moment >= known.moment:
                self.latest[name] = measured

    def _take_more(self, entry: Entry) -> None:
        """Take up what a record says of data sets and models."""
        match entry:
            case Inputs():
                self.datasets += [each for each in entry.datasets if each not in self.datasets]
                self.input_models += [each for each in entry.models if each not in self.input_models]
            case Outputs():
                self.outputs.update(entry.models)
            case Model():
                self.models[entry.model] = ModelFacts(entry, dict(entry.params), dict(entry.tags), time=entry.time)
            case ModelChange() if model := self.models.get(entry.model):
                model.params.update(entry.params)
                model.tags.update(entry.tags)
                model.tags.pop(entry.no_tag, None)
                model.status = entry.status or model.status

    def _open(self, entry: Opened) -> None:
        if self.opened is None:
            self.opened = entry
            self.tags.update(entry.tags)
            if entry.adopt:  # whether it goes on is not said by this
                return
        self.is_running, self.status, self.end_time = True, "RUNNING", None

    def history(self, metric: str) -> Iterator[Measured]:
        """Yield every measurement of a metric, in the order in which they were written."""
        for entry in entries(self.path):
            if isinstance(entry, Metrics) and metric in entry.values:
                yield next(measured for name, measured in measurements(entry) if name == metric)


def entries(path: Path) -> Iterator[Entry]:
    """Yield the records of a journal; it need not fit into memory."""
    offset = 0
    while found := journal.read(path, offset, WINDOW):
        for entry, offset in found:  # noqa: B007  # the last one counts
            yield entry


def measurements(entry: Metrics) -> Iterator[tuple[str, Measured]]:
    """Yield the name of each metric of a record with its measurement."""
    model, dataset = "", None
    if isinstance(entry, LinkedMetrics):
        model, dataset = entry.model, tuple(entry.dataset) if entry.dataset else None
    for name, value in entry.values.items():
        yield name, Measured(value, entry.time, entry.step, model, dataset)  # type: ignore[arg-type]  # JSON has lists


@dataclass
class Life:
    """When the run of a journal began, and whether it is open: all that the courier needs to know of a long one."""

    path: Path
    began: int = 0
    """Milliseconds since 1970; 0 for a model without a run."""
    is_running: bool = False
    parent: str = ""
    """The id of the run that it was begun in."""
    _offset: int = 0

    def refresh(self) -> "Life":
        """Take up what was written since."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # somebody is writing it
                self._offset += len(line)
                if LIFE.match(line):
                    self._take(journal.decode(line))
        return self

    def _take(self, entry: Entry | None) -> None:
        match entry:
            case Opened():
                self.is_running = bool(self.began) or not entry.adopt
                self.began = self.began or entry.time
                self.parent = entry.tags.get(PARENT_RUN_ID, self.parent)
            case Closed():
                self.is_running = False
