"""Reads what the runs of a sweep have reached from the tracking server alone."""

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.errors import RefusedError, SettingsError
from sweeptrail.outbox.history import make_epoch
from sweeptrail.outbox.pull import is_final
from sweeptrail.outbox.sweep_folder import RESULTS
from sweeptrail.records import Epoch, RunResult, Status
from sweeptrail.results.columns import metrics_of
from sweeptrail.results.leaderboard import RankedRun
from sweeptrail.results.runs_on_disk import RUNS, columns_of, from_json, goal_of, typed
from sweeptrail.tracking import tags
from sweeptrail.tracking.client import Run, TrackingServer
from sweeptrail.tracking.ui_links import Where

TABLE = f"{RESULTS}.json"

OWN = ("run", "epoch")
DURATIONS = {"epoch duration": "epoch_duration", "run duration": "run_duration"}
"""Columns of the table that are no metrics, or are called like a metric in words."""

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
    columns = columns_of(recorded, tags.read_settings(given))
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
    params = typed(child.data.params, columns)
    epochs = _epochs(child, [_from_row(row, index, params) for row in table.get(index, ()) if "epoch" in row])
    final = {name: value for name, value in child.data.metrics.items() if is_final(name, child.data.tags)}
    of_epochs = {name for epoch in epochs for name in epoch.metrics}
    start, end = child.info.start_time, child.info.end_time or 0
    return RunResult(
        index=index,
        name=child.info.run_name,
        params=params,
        status=OVER[child.info.status],
        epochs=epochs,
        metrics=final,
        latest={name: value for name, value in child.data.metrics.items() if name not in {*final, *of_epochs}},
        error=child.data.tags.get(tags.REASON) or None,
        time=end / 1000,
        duration=(end - start) / 1000 if end else None,
        stopped_early=child.data.tags.get(tags.STOPPED_EARLY, ""),
    )


def _epochs(child: Run, known: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Return the epochs as the table has them, or the last alone where the run has gone on since."""
    if "epoch_duration" not in child.data.metrics:
        return ()
    steps = {metric.key: metric.step for metric in child.data.to_proto().metrics}
    last = {
        name: value
        for name, value in child.data.metrics.items()
        if steps[name] == steps["epoch_duration"] and not is_final(name, child.data.tags)
    }
    epoch = make_epoch(int(child.data.tags[tags.RUN]), steps["epoch_duration"], last)
    if known and (known[-1].epoch, known[-1].epoch_duration) == (epoch.epoch, epoch.epoch_duration):
        return tuple(known)
    return (epoch,)


def _from_row(row: Mapping[str, Any], index: int, params: Mapping[str, Any]) -> Epoch:
    known = {DURATIONS.get(name, name): value for name, value in metrics_of(row, params).items()}
    values = {name: math.nan if value is None else value for name, value in known.items() if name not in OWN}
    return make_epoch(index, row["epoch"], values)
