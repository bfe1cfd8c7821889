"""What the runs of a sweep have reached: from its folder, or from the file that a sweep leaves at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeptrail.outbox import description, journal
from sweeptrail.outbox.delivery.state import Mailbox
from sweeptrail.outbox.history import read_history
from sweeptrail.records import Epoch, RunResult
from sweeptrail.results.leaderboard import Leaderboard, RankedRun
from sweeptrail.sweeps.settings import PARSERS, parse
from sweeptrail.tracking.ui_links import Where

RUNS = "runs.json"
"""An artifact of the parent, and in the sweep's folder."""


def runs_in(folder: Path) -> list[RankedRun]:
    """Return the runs that are over, in their order, of the sweep in this folder.

    Raises SweeptrailError if there is no sweep, or its description is damaged.
    """
    sweep = description.read(folder)
    columns = columns_of(sweep.settings)
    found = [_ranked_run(path, columns, sweep.tracking_uri) for path in folder.glob(f"*/{journal.FILE_NAME}")]
    return sorted((run for run in found if run), key=lambda run: run.result.index)


def as_json(board: Leaderboard, parent_id: str) -> str:
    """Return all runs as the text of RUNS.

    `parent_id` says on which server their ids are those: the sweep may be delivered to another later.
    """
    everyone = [*(one for row in board.rows for one in row.runs), *board.unranked]
    runs = [{"run_id": one.run_id, **asdict(one.result), "error": one.result.reason} for one in everyone]
    return json.dumps({"parent_id": parent_id, "runs": runs}) + "\n"


def from_json(text: str, sweep: str, where: Where) -> list[RankedRun]:
    """Return the runs of the parent at this place in such a text.

    [] if it is no such text, or of another server, or a run's id was not known yet when it was written.
    """
    try:
        content = json.loads(text)
        if content["parent_id"] != where.run_id or not all(run["run_id"] for run in content["runs"]):
            return []
        return [
            RankedRun(sweep, _result(run), run_id, where.experiment_id)
            for run_id, run in ((run.pop("run_id"), run) for run in content["runs"])
        ]
    except (ValueError, TypeError, KeyError):  # somebody else's file of that name
        return []


def _result(fields: dict[str, Any]) -> RunResult:
    epochs = tuple(Epoch(**epoch) for epoch in fields.pop("epochs"))
    error = fields.pop("error") or None
    return RunResult(**{**fields, "warnings": ()}, epochs=epochs, error=error)


def _ranked_run(path: Path, columns: Sequence[str] | None, tracking_uri: str) -> RankedRun | None:
    """Return the run that a journal is of; None while it is not over, or for the note of a resumption."""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    for entry, _ in journal.read(path):
        if entry["kind"] == "opened":
            tags.update(entry["tags"])
        elif entry["kind"] == "params":
            params.update(entry["values"])
    index = int(tags.get("sweeptrail.run", 0))
    history = read_history(path.parent, index)
    if not index or not history.status:
        return None
    result = RunResult(
        index, path.parent.name, typed(params, columns), history.status, history.epochs, history.metrics,
        error=history.reason or None, time=history.time,
    )  # fmt: skip
    box = Mailbox(path, tracking_uri)
    return RankedRun(path.parent.parent.name, result, box.run_id or "", box.experiment_id, str(path.parent))


def columns_of(settings: Mapping[str, str]) -> Sequence[str] | None:
    """Return which params are hyperparameters; None, for all of them, where a loop of one's own left no settings."""
    return parse(settings).grid()[0][0]._fields if settings else None  # type: ignore[attr-defined]  # a namedtuple


def typed(params: Mapping[str, str], columns: Sequence[str] | None) -> dict[str, Any]:
    """Return the hyperparameters as the values that their texts stand for."""
    return {name: _value(name, params[name]) for name in (params if columns is None else columns) if name in params}


def _value(name: str, text: str) -> Any:
    """Return the number or truth value that a text stands for, or else the text."""
    try:
        value = PARSERS[name][0](text) if name in PARSERS else json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text
