"""Records of a journal, written as briefly as tests need it; times are in seconds."""

from collections.abc import Mapping
from typing import Any

from sweeptrail.outbox.entries import (
    VERSION,
    Artifact,
    Closed,
    Dataset,
    EpochMetrics,
    FinalMetrics,
    Link,
    Note,
    Opened,
    Params,
    Tags,
    Version,
    milliseconds,
)


def opened(identity: str, *, name: str, time: float, tags: Mapping[str, str], **more: Any) -> Opened:
    return Opened(identity, name, milliseconds(time), tags, version=VERSION, **more)


def params(values: Mapping[str, Any]) -> Params:
    return Params({name: str(value) for name, value in values.items()})


def tags(values: Mapping[str, str]) -> Tags:
    return Tags(dict(values))


def metrics(values: Mapping[str, float], *, step: int, time: float) -> EpochMetrics:
    return EpochMetrics(dict(values), step, milliseconds(time))


def final(values: Mapping[str, float], *, step: int, time: float) -> FinalMetrics:
    return FinalMetrics(dict(values), step, milliseconds(time))


def artifact(path: str, to: str = "", *, growing: bool = False) -> Artifact:
    return Artifact(path, to, growing)


def link(tag: str, identity: str) -> Link:
    return Link(tag, identity)


def note(text: str) -> Note:
    return Note(text)


def dataset(**facts: Any) -> Dataset:
    return Dataset(**facts)


def version(**facts: Any) -> Version:
    return Version(**facts)


def closed(status: Any, *, time: float) -> Closed:
    return Closed(status, milliseconds(time))
