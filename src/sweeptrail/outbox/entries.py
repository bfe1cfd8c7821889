"""What a journal can say of an MLflow run: a value for each kind of record.

Version 1 knew one kind, `metrics`, for what is now `epoch`, `final` and `measured`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

from sweeptrail.records import Status
from sweeptrail.tracking import facts

VERSION = 2
"""Of the journal; the record that opens a run has it."""


@dataclass(frozen=True)
class Opened:
    """The run exists, or goes on."""

    kind: ClassVar = "opened"
    identity: str
    name: str
    time: int
    """Milliseconds since 1970, as in every record."""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    """The identity of the sweep; empty for the sweep's own run."""
    experiment: Mapping[str, str] = field(default_factory=dict)
    """The `id` or the `name` of the experiment of a run that has no parent."""
    adopt: Mapping[str, str] = field(default_factory=dict)
    """A run that is there already: its `uri` and `run_id`."""
    version: int = 1


@dataclass(frozen=True)
class Params:
    """Parameters of the run; what the run has already is left as it is."""

    kind: ClassVar = "params"
    values: Mapping[str, str]


@dataclass(frozen=True)
class Tags:
    """Tags of the run; a later value replaces an earlier one."""

    kind: ClassVar = "tags"
    values: Mapping[str, str]


@dataclass(frozen=True)
class Metrics:
    """Measurements at one step."""

    kind: ClassVar = "measured"
    values: Mapping[str, float]
    step: int
    time: int


@dataclass(frozen=True)
class EpochMetrics(Metrics):
    """What was measured in an epoch, which is the step."""

    kind: ClassVar = "epoch"


@dataclass(frozen=True)
class FinalMetrics(Metrics):
    """What was measured once, at the end of the run."""

    kind: ClassVar = "final"


@dataclass(frozen=True)
class Artifact:
    """A file, by its path from the journal's folder, that goes into the folder `to` of the artifacts."""

    kind: ClassVar = "artifact"
    path: str
    to: str = ""
    growing: bool = False
    """One that still grows may be passed over: the end of its run tells of it again."""
    digest: str = ""
    """What is in it; empty where nobody wants to know whether it is told again."""


@dataclass(frozen=True)
class Link:
    """A tag with the id that the run of this identity, a sweep's, has on the tracking server."""

    kind: ClassVar = "link"
    tag: str
    identity: str


@dataclass(frozen=True)
class Note:
    """The description of the run, Markdown whose links are those of tracking/ui_links.py; a later one replaces it."""

    kind: ClassVar = "note"
    text: str


@dataclass(frozen=True)
class Dataset(facts.Dataset):
    """The data that the run used."""

    kind: ClassVar = "dataset"


@dataclass(frozen=True)
class Version(facts.Candidate):
    """The artifacts `model` of the run are a version of a registered model."""

    kind: ClassVar = "version"
    parent: str = ""
    """The identity of the sweep."""


@dataclass(frozen=True)
class Decided:
    """A combination was chosen, or sent further: for the sweep's folder alone, before its run begins."""

    kind: ClassVar = "decided"
    trial: int
    """Its number, from 1."""
    time: int
    runs: Mapping[str, str] = field(default_factory=dict)
    """The key of each of its runs, one for each seed, by the run's number."""
    params: Mapping[str, str] = field(default_factory=dict)
    """As a person would write them; empty where it is known already."""
    epochs: int | None = None
    """The epoch that it is sent to; None for to its end."""


@dataclass(frozen=True)
class Paused:
    """The run has got as far as it was sent, and may go on."""

    kind: ClassVar = "paused"
    time: int


@dataclass(frozen=True)
class Closed:
    """The run is over."""

    kind: ClassVar = "closed"
    status: Status
    time: int


@dataclass(frozen=True)
class LinkedMetrics(Metrics):
    """Measurements at one step, of a logged model or on a data set."""

    kind: ClassVar = "linked"
    model: str = ""
    """The id of the model, in the form that it has on this machine."""
    dataset: tuple[str, str] | None = None
    """Name and digest."""


@dataclass(frozen=True)
class NoTag:
    """A tag is taken away."""

    kind: ClassVar = "no tag"
    name: str


@dataclass(frozen=True)
class Experiment:
    """An experiment exists, or has further tags; one of this name that is there already is used."""

    kind: ClassVar = "experiment"
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact_location: str = ""
    id: str = ""
    """On the tracking server; empty for one that was made here."""
    time: int = 0


@dataclass(frozen=True)
class Inputs:
    """What the run used: data sets with all that MLflow says of them, and models by their ids."""

    kind: ClassVar = "inputs"
    datasets: Sequence[Mapping[str, Any]] = ()
    models: Sequence[str] = ()


@dataclass(frozen=True)
class Outputs:
    """Which models the run has made: the step of each, by its id."""

    kind: ClassVar = "outputs"
    models: Mapping[str, int]


@dataclass(frozen=True)
class Model:
    """A logged model exists."""

    kind: ClassVar = "model"
    model: str
    """Its id, in the form that it has on this machine."""
    name: str
    time: int
    experiment: Mapping[str, str]
    """As of a run."""
    model_type: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    has_run: bool = True
    """Whether the run of this journal is where it comes from."""


@dataclass(frozen=True)
class ModelFile(Artifact):
    """A file, by its path from the journal's folder, that goes into the folder `to` of a logged model."""

    kind: ClassVar = "model file"
    model: str = ""


@dataclass(frozen=True)
class ModelChange:
    """A logged model has further params and tags, loses a tag, or is ready."""

    kind: ClassVar = "model change"
    model: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    no_tag: str = ""
    status: str = ""


@dataclass(frozen=True)
class Unknown:
    """A record that a later version has written."""

    kind: str


Entry = (
    Opened | Params | Tags | Metrics | EpochMetrics | FinalMetrics | Artifact | Link | Note | Dataset | Version
    | Decided | Paused | Closed | LinkedMetrics | NoTag | Experiment | Inputs | Outputs | Model | ModelFile
    | ModelChange | Unknown
)  # fmt: skip

KINDS: Mapping[str, Any] = {cls.kind: cls for cls in get_args(Entry) if cls is not Unknown}


def as_mapping(entry: Entry) -> dict[str, Any]:
    """Return the record as JSON holds it."""
    return {"kind": entry.kind, **vars(entry)}


def from_mapping(record: Mapping[str, Any]) -> Entry:
    """Return what a record of this or an earlier version says."""
    kind = record["kind"]
    if kind == "metrics":  # of version 1, where an epoch is what has a loss
        kind = "epoch" if "loss" in record["values"] else "final"
    if (cls := KINDS.get(kind)) is None:
        return Unknown(kind)
    known = {each.name for each in fields(cls)}
    entry: Entry = cls(**{name: value for name, value in record.items() if name in known})
    return entry


def milliseconds(seconds: float) -> int:
    """Return a time as MLflow counts it."""
    return round(seconds * 1000)
