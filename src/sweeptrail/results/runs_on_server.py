"""Reads what the runs of a sweep have reached from the tracking server alone."""

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.errors import RefusedError, SettingsError
from sweeptrail.outbox.history import make_epoch
from sweeptrail.outbox.pull import is_final
from sweeptrail.outbox.sweep_folder import RESULTS
from sweeptrail.records import Epoch, RunResult, Status
from sweeptrail.results.leaderboard import RankedRun
from sweeptrail.results.runs_on_disk import RUNS, columns_of, from_json, goal_of, typed
from sweeptrail.tracking import tags
from sweeptrail.tracking.client import Run, TrackingServer
from sweeptrail.tracking.ui_links import Where

TABLE = f"{RESULTS}.json"

OVER: dict[str, Status] = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"}


def gather(uri: str, run_id: str) -> list[RankedRun]:
    """Return the runs that are over, in their order, of the sweep whose parent run this is.

    Four requests for a sweep that is finished, however many its runs; else six for up to 2,000.
    While the sweep runs each run has its last epoch only. Raises SettingsError if the server has no such sweep, and
    DeliveryError when it does not answer.
    """
    server = TrackingServer(uri)
    try:
        parent = server.get(run_id)
    except RefusedError as error:
        raise SettingsError(f"expected the id of a sweep's parent run, got {run_id!r} ({error})") from error
    given = parent.data.tags
    if tags.IDENTITY not in given or tags.PARENT_RUN_ID in given:
        what = "a nested run; write the id of its parent" if tags.PARENT_RUN_ID in given else "no sweep's"
        raise SettingsError(f"expected the id of a sweep's parent run, got {run_id!r}, which is {what}")
    sweep, goal = Path(given.get(tags.FOLDER, parent.info.run_name)).name, goal_of(given.get(tags.GOAL, ""))
    there = server.files(parent, "")
    if parent.info.status == "FINISHED" and RUNS in there:  # else it may be that of an earlier sitting
        where = Where(parent.info.experiment_id, run_id)
        if found := from_json(_text(server, parent, RUNS), sweep, where, goal):
            return sorted(found, key=lambda run: run.result.index)
    table = _rows(_text(server, parent, TABLE)) if TABLE in there else {}
    recorded = [name for name in given.get(tags.COLUMNS, "").split(",") if name]
    columns = columns_of(recorded, json.loads(given.get(tags.SETTINGS, "{}")))
    children = [child for child in server.children(parent) if tags.RUN in child.data.tags]
    found = [
        RankedRun(sweep, _result(child, columns, table), child.info.run_id, child.info.experiment_id, goal)
        for child in children
        if child.info.status in OVER
    ]
    return sorted(found, key=lambda run: run.result.index)


def _text(server: TrackingServer, parent: Run, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
        return server.download(parent, name, Path(folder)).read_text(encoding="utf-8")


def _rows(text: str) -> Mapping[int, list[dict[str, Any]]]:
    """Return the rows of each run in the table, by its number."""
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    try:
        for row in json.loads(text):
            rows[row["run"]].append(row)
    except (ValueError, TypeError, KeyError):  # somebody else's file of that name
        rows.clear()
    return rows


def _result(child: Run, columns: Sequence[str] | None, table: Mapping[int, list[dict[str, Any]]]) -> RunResult:
    index = int(child.data.tags[tags.RUN])
    reason = child.data.tags.get(tags.REASON, "")
    return RunResult(
        index=index,
        name=child.info.run_name,
        params=typed(child.data.params, columns),
        status=OVER[child.info.status],
        epochs=_epochs(child, index, table.get(index, ())),
        metrics={name: value for name, value in child.data.metrics.items() if is_final(name)},
        error=reason or None,
        time=(child.info.end_time or 0) / 1000,
    )


def _epochs(child: Run, index: int, rows: Sequence[Mapping[str, Any]]) -> tuple[Epoch, ...]:
    """Return the epochs as the table has them, or the last alone where the run has gone on since."""
    last = {name: value for name, value in child.data.metrics.items() if not is_final(name)}
    if rows and rows[-1].get("loss") == last.get("loss"):
        return tuple(_from_row(row, index, child.data.params) for row in rows)
    if "loss" not in last:
        return ()
    [step] = [metric.step for metric in child.data.to_proto().metrics if metric.key == "loss"]
    return (make_epoch(index, step, last),)


def _from_row(row: Mapping[str, Any], index: int, params: Iterable[str]) -> Epoch:
    named = {name.replace(" ", "_"): math.nan if value is None else value for name, value in row.items()}
    values = {name: value for name, value in named.items() if name not in ("run", "epoch", *params)}
    return make_epoch(index, row["epoch"], values)
