"""What a tracking server is told of a run, as plain values, and what the run must show afterwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Dataset:
    """The data that a run used."""

    name: str
    digest: str
    source: str
    """Where the data are; with a `source_type`, what MLflow says of that, as JSON."""
    profile: Mapping[str, Any]
    source_type: str = ""
    schema: str = ""
    context: str = "training"
    """What the run used it for."""


class Measurement(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970."""
    step: int
    model: str = ""
    """The id of the logged model that it is of."""
    dataset: str = ""
    """The name of the data set that it was measured on."""
    digest: str = ""
    """Of that data set."""


@dataclass(frozen=True)
class Candidate:
    """The artifacts `model` of a run are a version of the registered model `name`."""

    name: str
    metric: str
    """With `value` on `data`, what it is compared with the champion by."""
    value: float
    data: str
    tags: Mapping[str, str] = field(default_factory=dict)
    greater_is_better: bool = True


@dataclass
class Expected:
    """What the server has said that it took of one run, and must show."""

    metrics: list[list[tuple[str, int, int]]] = field(default_factory=list)
    """For each request name, time and step of what a run may show of it: the value at the highest step of each name.
    One that is there stands for all, since a request's metrics are taken all or none."""
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[Dataset] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags or self.datasets)

    def add(self, metrics: list[tuple[str, int, int]], params: Iterable[str], tags: Mapping[str, str]) -> None:
        """Add what one request held."""
        highest: dict[str, tuple[int, int]] = {}
        for name, time, step in metrics:
            highest[name] = max((step, time), highest.get(name, (step, time)))
        if highest:
            self.metrics.append([(name, time, step) for name, (step, time) in highest.items()])
        self.params |= set(params)
        self.tags |= tags
