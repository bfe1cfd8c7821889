"""Makes the folder of a sweep from what the tracking server knows of it."""

import json
from collections import defaultdict
from pathlib import Path

from mlflow.entities import Run

from sweeptrail.errors import RefusedError
from sweeptrail.outbox import entries, journal
from sweeptrail.outbox.delivery.state import Mailbox
from sweeptrail.outbox.description import SETTINGS_TAG, Description, KnownRun
from sweeptrail.outbox.entries import IDENTITY_TAG
from sweeptrail.outbox.history import COLUMNS
from sweeptrail.tracking.client import TrackingServer
from sweeptrail.tracking.uri import without_credentials


def pull(uri: str, run_id: str, runs_dir: Path) -> Path | None:
    """Make a folder for the sweep whose parent run this is, and return it; None if it is no sweep's parent.

    The journals hold what the server has: finished runs are finished, others begin anew without
    telling the server again what it knows. Raises DeliveryError when the server does not answer.
    """
    server = TrackingServer(uri)
    try:
        parent = server.get(run_id)
    except RefusedError:
        return None
    if SETTINGS_TAG not in parent.data.tags:
        return None
    folder = _new_folder(runs_dir, Path(parent.data.tags.get("sweeptrail.folder", "")).name.strip(".") or run_id)
    children = [child for child in server.children(parent) if IDENTITY_TAG in child.data.tags]
    for child in children:
        _write(server, child, folder / _name(child), parent)
    _write(server, parent, folder, None)
    Description(
        identity=parent.data.tags[IDENTITY_TAG],
        created=parent.info.start_time / 1000,
        tracking_uri=without_credentials(uri),
        settings=json.loads(parent.data.tags[SETTINGS_TAG]),
        runs=[_known(child) for child in children],
    ).write(folder)
    return folder


def _known(child: Run) -> KnownRun:
    tags = child.data.tags
    return KnownRun(int(tags["sweeptrail.run"]), _name(child), tags["sweeptrail.key"])


def _name(child: Run) -> str:
    """Return the name of a run if it can be that of a folder; somebody may have renamed the run."""
    index, name = child.data.tags["sweeptrail.run"], child.info.run_name or ""
    return name if name.startswith(f"{index}_") and "/" not in name and "\0" not in name else f"{int(index)}_renamed"


def _write(server: TrackingServer, run: Run, folder: Path, parent: Run | None) -> None:
    """Write the journal that tells what the server knows of a run, and remember that it knows."""
    written = journal.Journal(folder / journal.FILE_NAME)
    written.append(
        entries.opened(
            run.data.tags[IDENTITY_TAG],
            name=run.info.run_name,
            time=run.info.start_time / 1000,
            tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
            parent=parent.data.tags[IDENTITY_TAG] if parent else "",
        )
    )
    written.append(entries.params(run.data.params))
    for entry in _measured(server, run):
        written.append(entry)
    if run.info.status != "RUNNING":
        written.append(entries.closed(run.info.status, time=(run.info.end_time or 0) / 1000))
    written.sync()
    written.close()
    box = Mailbox(written.path, server.uri)
    box.run_id, box.experiment_id = run.info.run_id, run.info.experiment_id
    box.offset = written.path.stat().st_size
    box.save()


def _measured(server: TrackingServer, run: Run) -> list[journal.Entry]:
    """Return the metrics of a run, those of an epoch together."""
    by_step: dict[tuple[int, bool], dict[str, float]] = defaultdict(dict)
    times: dict[tuple[int, bool], int] = {}
    for name in run.data.metrics:
        for metric in server.history(run.info.run_id, name):
            moment = (metric.step, name.startswith("test_"))
            by_step[moment][name] = metric.value
            times[moment] = metric.timestamp
    return [
        entries.metrics(dict(sorted(values.items(), key=_column)), step=moment[0], time=times[moment] / 1000)
        for moment, values in sorted(by_step.items())
        if moment[1] or set(COLUMNS) <= set(values)
    ]


def _column(metric: tuple[str, float]) -> int:
    """Return the place of a metric among the columns of the table, which the server does not tell."""
    columns = (*COLUMNS, "validation_loss", "validation_accuracy")
    return columns.index(metric[0]) if metric[0] in columns else len(columns)


def _new_folder(runs_dir: Path, name: str) -> Path:
    folder = runs_dir / name
    number = 1
    while folder.exists():
        number += 1
        folder = runs_dir / f"{name}_{number}"
    folder.mkdir(parents=True)
    return folder
