"""The one table of everything: a row for each epoch of each run, as CSV and as JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.records import Epoch, RunResult
from sweeptrail.results.columns import columns_of
from sweeptrail.system.files import write_whole

Row = dict[str, Any]


def row(epoch: Epoch, params: Mapping[str, Any]) -> Row:
    """Return one line of the table, its columns in the article's order."""
    counted = {"loss": epoch.loss, "accuracy": epoch.accuracy}
    return {
        "run": epoch.run,
        "epoch": epoch.epoch,
        **{name: value for name, value in counted.items() if value is not None},
        "epoch duration": epoch.epoch_duration,
        "run duration": epoch.run_duration,
        **columns_of(params, epoch.extra),
    }


def rows(results: Iterable[RunResult]) -> list[Row]:
    """Flatten results to one row per epoch, ordered by run, then epoch; a run without epochs has one row as well."""
    ordered = sorted(results, key=lambda result: result.index)
    return [line for result in ordered for line in _rows_of(result)]


def _rows_of(result: RunResult) -> list[Row]:
    if result.epochs:
        return [row(epoch, result.params) for epoch in result.epochs]
    if not result.finals:
        return []
    duration = {} if result.duration is None else {"run duration": result.duration}
    return [{"run": result.index, **duration, **columns_of(result.params, result.finals)}]


def save(table: Sequence[Row], path: Path) -> list[Path]:
    """Write PATH.csv, as pandas writes a frame, and PATH.json, a list of records; return both paths.

    Each file is replaced whole. Raises SweeptrailError when it cannot be written.
    """
    import pandas  # 0.5 s, and the workers never need it

    csv_path, json_path = path.with_name(path.name + ".csv"), path.with_name(path.name + ".json")
    write_whole(csv_path, pandas.DataFrame(table).to_csv())
    # Not through pandas, which rounds to ten digits.
    records = ({name: json_value(value) for name, value in row.items()} for row in table)
    # A line for each: json's own indentation takes five times as long.
    lines = ",".join(f"\n    {json.dumps(record, ensure_ascii=False, default=str)}" for record in records)
    write_whole(json_path, f"[{lines}\n]\n")
    return [csv_path, json_path]


def json_value(value: Any) -> Any:
    """Return null for what JSON has no number for: nan, and the infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
