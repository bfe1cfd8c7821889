"""What of a journal is told in one go, in how few requests, and what the run must show afterwards."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal

Record = tuple[journal.Entry, int]
"""What a journal says, with the offset after it."""

Files = dict[str, dict[str, tuple[int, int]]]
"""Of each folder of the artifacts the files by their names: the size, and the offset of the record."""

ALONE = ("opened", "version", "closed")
"""Kinds of records that come when all before them is confirmed, and are confirmed before anything else comes."""

LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
"""What one log_batch may hold (MLflow's REST API, "Request Limits")."""

TOTAL = 1000
"""What one log_batch may hold in all."""

LOGGED = {"metrics": "metrics", "params": "params", "tags": "tags", "link": "tags", "note": "tags"}
"""Kinds of records that share a log_batch, and by which of its limits each counts."""


@dataclass
class Told:
    """What the server has said that it took of one run, and must show."""

    metrics: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, time and step of the last metric of each request; a request's metrics are taken all or none."""
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[journal.Entry] = field(default_factory=list)
    files: Files = field(default_factory=dict)

    @property
    def has_facts(self) -> bool:
        """Tell whether there is anything but files."""
        return bool(self.metrics or self.params or self.tags or self.datasets)

    def add_facts(self, metrics: list[tuple[str, int, int]], params: Iterable[str], tags: Mapping[str, str]) -> None:
        """Add what one request held."""
        self.metrics += metrics[-1:]
        self.params |= set(params)
        self.tags |= tags

    def add_file(self, record: Record, size: int) -> None:
        """Add the file that an artifact's record is about."""
        entry, offset = record
        self.files.setdefault(entry["to"], {})[Path(entry["path"]).name] = (size, offset)

    def has_file(self, record: Record) -> bool:
        """Tell whether this very record was told, and not only an earlier one about the same file."""
        entry, offset = record
        return self.files.get(entry["to"], {}).get(Path(entry["path"]).name, (0, -1))[1] == offset

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of each file in a folder of the artifacts."""
        return {name: size for name, (size, _) in self.files[folder].items()}


def rounds(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Split records, in their order, into those that may be told side by side."""
    together: list[Record] = []
    for record in records:
        is_alone = record[0]["kind"] in ALONE
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
    """Group records of LOGGED kinds, in their order, by what fits into one log_batch."""
    batch: list[Record] = []
    counts: Counter[str] = Counter()
    for entry, offset in records:
        for piece in _pieces(entry):
            more = Counter({LOGGED[piece["kind"]]: len(piece.get("values", [piece]))})
            if batch and not _fits(counts + more):
                yield batch
                batch, counts = [], Counter()
            batch.append((piece, offset))
            counts += more
    if batch:
        yield batch


def replaceable(entry: journal.Entry) -> tuple[str, ...]:
    """Return what a later record of the same would replace: a file by its name and folder, or the note."""
    match entry["kind"]:
        case "artifact":
            return (Path(entry["path"]).name, entry["to"])
        case "note":
            return ("note",)
    return ()


def _pieces(entry: journal.Entry) -> Iterator[journal.Entry]:
    """Cut an entry that is too long for one request, its metrics in the order of their importance."""
    values: list[tuple[str, Any]] = sorted(entry.get("values", {}).items(), key=_importance)
    if not values:
        yield entry
    limit = LIMITS[LOGGED[entry["kind"]]]
    for start in range(0, len(values), limit):
        yield {**entry, "values": dict(values[start : start + limit])}


def _importance(value: tuple[str, Any]) -> int:
    """Return the rank of a metric: MLflow's comparison of runs begins with the one that was logged first."""
    return {"validation_accuracy": 0, "accuracy": 1}.get(value[0], 2)


def _fits(counts: Counter[str]) -> bool:
    return counts.total() <= TOTAL and all(counts[kind] <= limit for kind, limit in LIMITS.items())
