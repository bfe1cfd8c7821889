"""The one table of everything: a row for each epoch of each run, as CSV and as JSON."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.errors import SweeptrailError
from sweeptrail.records import Epoch, RunResult

Row = dict[str, Any]


def row(epoch: Epoch, params: Mapping[str, Any]) -> Row:
    """Return one line of the table, its columns in the article's order."""
    return {
        "run": epoch.run,
        "epoch": epoch.epoch,
        "loss": epoch.loss,
        "accuracy": epoch.accuracy,
        "epoch duration": epoch.epoch_duration,
        "run duration": epoch.run_duration,
        **params,
        **epoch.extra,
    }


def rows(results: Iterable[RunResult]) -> list[Row]:
    """Flatten results to one row per epoch, ordered by run, then epoch."""
    ordered = sorted(results, key=lambda result: result.index)
    return [row(epoch, result.params) for result in ordered for epoch in result.epochs]


def save(table: Sequence[Row], path: Path) -> list[Path]:
    """Write PATH.csv, as pandas writes a frame, and PATH.json, a list of records; return both paths.

    Each file is replaced whole. Raises SweeptrailError when it cannot be written.
    """
    import pandas  # 0.5 s, and the workers never need it

    csv_path, json_path = path.with_name(path.name + ".csv"), path.with_name(path.name + ".json")
    write_whole(csv_path, pandas.DataFrame(table).to_csv())
    # Not through pandas, which rounds to ten digits.
    records = ({name: _json_value(value) for name, value in row.items()} for row in table)
    # A line for each: json's own indentation takes five times as long.
    lines = ",".join(f"\n    {json.dumps(record, ensure_ascii=False, default=str)}" for record in records)
    write_whole(json_path, f"[{lines}\n]\n")
    return [csv_path, json_path]


def _json_value(value: Any) -> Any:
    """Return null for what JSON has no number for: nan, and the infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees all of it or what was there before, even after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise SweeptrailError(f"{path}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder would survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
