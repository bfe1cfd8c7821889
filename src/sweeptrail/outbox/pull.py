"""Makes the folder of a sweep from what the tracking server knows of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeptrail.errors import RefusedError
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import (
    VERSION,
    Closed,
    Decided,
    Entry,
    EpochMetrics,
    FinalMetrics,
    Metrics,
    Opened,
    Params,
)
from sweeptrail.outbox.history import COLUMNS
from sweeptrail.outbox.journal import FILE_NAME, append
from sweeptrail.outbox.sweep_folder import Description, KnownRun
from sweeptrail.tracking import tags
from sweeptrail.tracking.client import Run, TrackingServer
from sweeptrail.tracking.uri import without_credentials


def is_final(metric: str, run_tags: Mapping[str, str]) -> bool:
    """Tell whether a metric on the server has a final value: MLflow has no kinds of metrics, but a tag names them.

    Version 0.1 had no such tag, and no other final values than `test_loss` and `test_accuracy`.
    """
    if tags.FINAL in run_tags:
        return metric in run_tags[tags.FINAL].split(",")
    return metric.startswith("test_")


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
    if tags.SETTINGS not in parent.data.tags:
        return None
    folder = _new_folder(runs_dir, Path(parent.data.tags.get(tags.FOLDER, "")).name.strip(".") or run_id)
    children = [child for child in server.children(parent) if tags.IDENTITY in child.data.tags]
    for child in children:
        _write(server, child, folder / _name(child), parent)
    _write(server, parent, folder, None, _decisions(children))
    Description(
        identity=parent.data.tags[tags.IDENTITY],
        created=parent.info.start_time / 1000,
        tracking_uri=without_credentials(uri),
        settings=tags.read_settings(parent.data.tags),
        runs=[_known(child) for child in children],
        goal=parent.data.tags.get(tags.GOAL, ""),
        columns=[name for name in parent.data.tags.get(tags.COLUMNS, "").split(",") if name],
        task=parent.data.tags.get(tags.TASK, ""),
        is_from_server=True,
    ).write(folder)
    return folder


def _known(child: Run) -> KnownRun:
    given = child.data.tags
    return KnownRun(int(given[tags.RUN]), _name(child), given[tags.KEY])


def _name(child: Run) -> str:
    """Return the name of a run if it can be that of a folder; somebody may have renamed the run."""
    index, name = child.data.tags[tags.RUN], child.info.run_name or ""
    return name if name.startswith(f"{index}_") and "/" not in name and "\0" not in name else f"{int(index)}_renamed"


def _decisions(children: Sequence[Run]) -> list[Decided]:
    """Return what a search had chosen, as its runs tell it."""
    trials: dict[int, list[Run]] = defaultdict(list)
    for child in children:
        if tags.TRIAL in child.data.tags:
            trials[int(child.data.tags[tags.TRIAL])].append(child)
    return [
        Decided(
            number,
            runs[0].info.start_time,
            {run.data.tags[tags.RUN]: run.data.tags[tags.KEY] for run in runs},
            dict(runs[0].data.params),
        )
        for number, runs in sorted(trials.items())
    ]


def _write(
    server: TrackingServer, run: Run, folder: Path, parent: Run | None, decisions: Sequence[Decided] = ()
) -> None:
    """Write the journal that tells what the server knows of a run, and remember that it knows."""
    path = folder / FILE_NAME
    opened = Opened(
        run.data.tags[tags.IDENTITY],
        name=run.info.run_name,
        time=run.info.start_time,
        tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
        parent=parent.data.tags[tags.IDENTITY] if parent else "",
        version=VERSION,
    )
    is_over = run.info.status != "RUNNING"
    closed = [Closed(run.info.status, run.info.end_time or 0)] if is_over else []
    append(path, opened, Params(run.data.params), *decisions, *_measured(server, run), *closed)
    state = DeliveryState(path, server.uri)
    state.run_id, state.experiment_id = run.info.run_id, run.info.experiment_id
    state.offset = path.stat().st_size
    state.save()


def _measured(server: TrackingServer, run: Run) -> list[Entry]:
    """Return the metrics of a run, those of a step together; a step with the duration of an epoch is one."""
    by_step: dict[tuple[int, bool], dict[str, float]] = defaultdict(dict)
    times: dict[tuple[int, bool], int] = {}
    for name in run.data.metrics:
        history = sorted(server.history(run.info.run_id, name), key=lambda metric: (metric.step, metric.timestamp))
        for position, metric in enumerate(history, start=1):
            # What a tag calls final may have been in every epoch as well.
            may_be = position == len(history) or tags.FINAL not in run.data.tags
            moment = (metric.step, may_be and is_final(name, run.data.tags))
            by_step[moment][name] = metric.value
            times[moment] = metric.timestamp
    return [
        _kind(values, at_end)(dict(sorted(values.items(), key=_column)), step, times[step, at_end])
        for (step, at_end), values in sorted(by_step.items())
    ]


def _kind(values: Mapping[str, float], at_end: bool) -> type[Metrics]:
    if at_end:
        return FinalMetrics
    return EpochMetrics if "epoch_duration" in values else Metrics


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
