"""What the runs of a sweep have reached: from its folder, or from the file that a sweep leaves at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal, sweep_folder
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.history import ended, read_history
from sweeptrail.outbox.sweep_folder import Description
from sweeptrail.records import Epoch, Goal, RunResult
from sweeptrail.results.leaderboard import Leaderboard, RankedRun
from sweeptrail.search import text
from sweeptrail.tracking import tags
from sweeptrail.tracking.ui_links import Where

RUNS = "runs.json"
"""An artifact of the parent, and in the sweep's folder."""


def runs_in(folder: Path) -> list[RankedRun]:
    """Return the runs that are over, in their order, of the sweep in this folder.

    Raises SweeptrailError if there is no sweep, or its description is damaged.
    """
    sweep = sweep_folder.read(folder)
    found = [_ranked_run(path, sweep) for path in folder.glob(f"*/{journal.FILE_NAME}")]
    return sorted((run for run in found if run), key=lambda run: run.result.index)


def as_json(board: Leaderboard, parent_id: str) -> str:
    """Return all runs as the text of RUNS.

    `parent_id` says on which server their ids are those: the sweep may be delivered to another later.
    """
    everyone = [*(one for row in board.rows for one in row.runs), *board.unranked]
    runs = [{"run_id": one.run_id, **asdict(one.result), "error": one.result.reason} for one in everyone]
    return json.dumps({"parent_id": parent_id, "runs": runs}) + "\n"


def from_json(content_text: str, sweep: str, where: Where, goal: Goal | None) -> list[RankedRun]:
    """Return the runs of the parent at this place in such a text.

    [] if it is no such text, or of another server, or a run's id was not known yet when it was written.
    """
    try:
        content = json.loads(content_text)
        if content["parent_id"] != where.run_id or not all(run["run_id"] for run in content["runs"]):
            return []
        return [
            RankedRun(sweep, _result(run), run_id, where.experiment_id, goal)
            for run_id, run in ((run.pop("run_id"), run) for run in content["runs"])
        ]
    except (ValueError, TypeError, KeyError):  # somebody else's file of that name
        return []


def _result(fields: dict[str, Any]) -> RunResult:
    epochs = tuple(Epoch(**epoch) for epoch in fields.pop("epochs"))
    error = fields.pop("error") or None
    return RunResult(**{**fields, "warnings": ()}, epochs=epochs, error=error)


def _ranked_run(path: Path, sweep: Description) -> RankedRun | None:
    """Return the run that a journal is of; None while it is not over, or for the note of a resumption."""
    history = read_history(path.parent, 0)
    index = int(history.tags.get(tags.RUN, 0))
    columns = columns_of(sweep.columns, sweep.settings)
    result = ended(index, path.parent.name, typed(history.params, columns), read_history(path.parent, index))
    if not index or not result:
        return None
    state = DeliveryState(path, sweep.tracking_uri)
    name = path.parent.parent.name
    return RankedRun(name, result, state.run_id or "", state.experiment_id, goal_of(sweep.goal), str(path.parent))


def goal_of(text: str) -> Goal | None:
    """Return what a sweep says that ranks its runs; None where it says nothing, or nothing that can be understood."""
    try:
        return Goal.parse(text)
    except ValueError:
        return None


ALWAYS = ("lr", "batch_size", "shuffle")
"""What version 0.1, which did not record them, had as columns beside what had several values."""


def columns_of(recorded: Sequence[str], settings: Mapping[str, str]) -> Sequence[str] | None:
    """Return which params are hyperparameters; None, for all of them, where a loop of one's own left no settings."""
    if recorded or not settings:
        return recorded or None
    return [name for name, text in settings.items() if name in ALWAYS or "," in text]


def typed(params: Mapping[str, str], columns: Sequence[str] | None) -> dict[str, Any]:
    """Return the hyperparameters as the values that their texts stand for."""
    names = params if columns is None else columns
    return {name: text.typed(params[name]) for name in names if name in params}
