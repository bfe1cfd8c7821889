"""What of a journal is told in one go, in how few requests, and what the run must show afterwards."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeptrail.outbox.entries import (
    Artifact,
    Closed,
    Entry,
    Experiment,
    Inputs,
    Link,
    Metrics,
    Model,
    ModelChange,
    ModelFile,
    NoTag,
    Note,
    Opened,
    Outputs,
    Params,
    Tags,
    Version,
)

Record = tuple[Entry, int]
"""What a journal says, with the offset after it."""

Logged = Metrics | Params | Tags | Link | Note
"""What shares a log_batch."""


ALONE = (Opened, Version, Closed, NoTag, Experiment, Inputs, Outputs, Model, ModelChange)
"""What is told when all before it is confirmed."""

LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
"""What one log_batch may hold (MLflow's REST API, "Request Limits")."""

TOTAL = 1000
"""What one log_batch may hold in all."""


def rounds(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Split records, in their order, into those that may be told side by side.

    The opening and the end of a run, a version, and what says something of a model, come when all before them is
    confirmed, and are confirmed before anything else comes.
    """
    together: list[Record] = []
    for record in records:
        is_alone = isinstance(record[0], ALONE)
        if is_alone and together:
            yield together
            together = []
        together.append(record)
        if is_alone:
            yield together
            together = []
    if together:
        yield together


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Group what shares a log_batch, in its order, by what fits into one; other records are left out."""
    batch: list[Record] = []
    counts: Counter[str] = Counter()
    for entry, offset in records:
        if not isinstance(entry, Logged):
            continue
        for piece in _pieces(entry):
            more = Counter({_limit_of(piece): _length(piece)})
            if batch and not _fits(counts + more):
                yield batch
                batch, counts = [], Counter()
            batch.append((piece, offset))
            counts += more
    if batch:
        yield batch


def replaceable(entry: Entry) -> tuple[str, ...]:
    """Return what a later record of the same would replace: a file by its name and folder, or the note."""
    match entry:
        case ModelFile():
            return (Path(entry.path).name, entry.to, entry.model)
        case Artifact():
            return (Path(entry.path).name, entry.to)
        case Note():
            return ("note",)
    return ()


def _limit_of(entry: Logged) -> str:
    """Return by which of the limits a record counts."""
    return "metrics" if isinstance(entry, Metrics) else "params" if isinstance(entry, Params) else "tags"


def _length(entry: Logged) -> int:
    return 1 if isinstance(entry, Link | Note) else len(entry.values)


def _pieces(entry: Logged) -> Iterator[Logged]:
    """Cut a record that is too long for one request, its metrics in the order of their importance."""
    if isinstance(entry, Link | Note) or not entry.values:
        yield entry
        return
    values: list[tuple[str, Any]] = sorted(entry.values.items(), key=_importance)
    limit = LIMITS[_limit_of(entry)]
    for start in range(0, len(values), limit):
        yield replace(entry, values=dict(values[start : start + limit]))  # type: ignore[arg-type]  # its own values


def _importance(value: tuple[str, Any]) -> int:
    """Return the rank of a metric: MLflow's comparison of runs begins with the one that was logged first."""
    return {"validation_accuracy": 0, "accuracy": 1}.get(value[0], 2)


def _fits(counts: Counter[str]) -> bool:
    return counts.total() <= TOTAL and all(counts[kind] <= limit for kind, limit in LIMITS.items())
