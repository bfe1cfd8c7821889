"""All that a tracking server shows of some runs, without what differs from one time to the next."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, Metric, Run

from sweeptrail.tracking.tags import IDENTITY, PARENT_RUN_ID

DURATION = re.compile(r"_time$|_runtime$|_per_second$")
"""The names of metrics that say how long something took."""

RANDOM_NAME = re.compile(r"\b[a-z]+-[a-z]+-\d{1,3}\b")
"""What MLflow calls a run that nobody has named."""

NOT_THE_SAME = {
    re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?"): b"a time",
    re.compile(rb"(?<=_time\": )[\d.]+|(?<=_per_second\": )[\d.]+"): b"a time",
    re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"): b"an id",
    re.compile(rb"/tmp/tmp\w{8}\b"): b"a folder",
    re.compile(rb"^([\d.e-]+,){4}", re.MULTILINE): b"times,",  # what sklearn's search has taken
    re.compile(rb"<td>[^<]*\d\.\d[^<]*</td>"): b"<td>some of them times</td>",
}
"""What two runs of one script differ by in their files."""


def everything(client: MlflowClient, runs: Iterable[Run], into: Path) -> dict[str, Any]:
    """Return what the server shows of these runs and of the models that they made, by plain names instead of ids."""
    runs = sorted(runs, key=_order)
    models = models_of(client, runs)
    ids = {run.info.run_id: f"run {number}" for number, run in enumerate(runs)}
    ids |= {model.model_id: f"model {number}" for number, model in enumerate(models)}
    # The script may have written of them by the ids that they had on its machine.
    tags = {run.info.run_id: run.data.tags for run in runs} | {model.model_id: model.tags for model in models}
    ids |= {tags[each].get(IDENTITY, each): name for each, name in ids.items()}
    shown = {ids[run.info.run_id]: _run(client, run, ids, into) for run in runs}
    return shown | {ids[model.model_id]: _model(model, ids, into) for model in models}


def _order(run: Run) -> tuple[Any, ...]:
    """Return what orders runs: the outermost first, then by when they began, which is the same for a whole grid."""
    return PARENT_RUN_ID in run.data.tags, run.info.start_time, sorted(run.data.params.items())


def models_of(client: MlflowClient, runs: Iterable[Run]) -> list[LoggedModel]:
    """Return the models that some runs of one experiment have made, in the order in which they were made."""
    [experiment] = {run.info.experiment_id for run in runs}
    own = {run.info.run_id for run in runs}
    found = [model for model in client.search_logged_models([experiment]) if model.source_run_id in own]
    return sorted(found, key=lambda model: model.creation_timestamp)


def paths_of(client: MlflowClient, run: Run, folder: str = "") -> set[str]:
    """Return the paths of the artifacts of a run."""
    found: set[str] = set()
    for each in client.list_artifacts(run.info.run_id, folder or None):
        found |= paths_of(client, run, each.path) if each.is_dir else {each.path}
    return found


def _run(client: MlflowClient, run: Run, ids: Mapping[str, str], into: Path) -> dict[str, Any]:
    assert run.inputs
    folder = into / ids[run.info.run_id]
    folder.mkdir(parents=True)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    for metric in [each for values in history.values() for each in values]:
        assert run.info.start_time - 1000 <= metric.timestamp <= (run.info.end_time or metric.timestamp) + 1000
    return {
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {name: _metrics(values, ids) for name, values in history.items()},
        "tags": _tags(run.data.tags, ids),
        "data": [(dict(each.dataset), [dict(tag) for tag in each.tags]) for each in run.inputs.dataset_inputs],
        "used": [ids[each.model_id] for each in run.inputs.model_inputs],
        "made": sorted((ids[each.model_id], each.step) for each in run.outputs.model_outputs) if run.outputs else [],
        "files": _files(client.download_artifacts(run.info.run_id, "", str(folder)), ids),
    }


def _model(model: LoggedModel, ids: Mapping[str, str], into: Path) -> dict[str, Any]:
    folder = into / ids[model.model_id]
    folder.mkdir(parents=True)
    metrics = {name: [each for each in model.metrics or [] if each.key == name] for name in _names(model)}
    return {
        "name": model.name,
        "type": model.model_type,
        "status": str(model.status),
        "run": ids[model.source_run_id or ""],
        "params": model.params,
        "metrics": {name: _metrics(values, ids) for name, values in metrics.items()},
        "tags": _tags(model.tags, ids),
        "files": _files(download_artifacts(f"models:/{model.model_id}", dst_path=str(folder)), ids),
    }


def _names(model: LoggedModel) -> list[str]:
    return sorted({metric.key for metric in model.metrics or []})


def _metrics(values: list[Metric], ids: Mapping[str, str]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            each.step,
            "a time" if DURATION.search(each.key) else each.value,
            ids.get(each.model_id or "", ""),
            each.dataset_name or "",
            each.dataset_digest or "",
        )
        for each in values
    )


def _tags(tags: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, str]:
    return {
        name: RANDOM_NAME.sub("a name", _plain(value.encode(), ids).decode())
        for name, value in tags.items()
        if name != IDENTITY
    }


def _files(folder: str, ids: Mapping[str, str]) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): _content(path, ids)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def _content(path: Path, ids: Mapping[str, str]) -> bytes | dict[str, bytes]:
    """Return what is in a file; of an archive, as torch writes them, what is in its files, without their checksums."""
    content = path.read_bytes()
    if path.suffix == ".pkl" and b"refit_time_" in content:
        return str(len(content)).encode()
    if not zipfile.is_zipfile(path):
        return _plain(content, ids)
    with zipfile.ZipFile(path) as archive:
        return {
            name: _plain(archive.read(name), ids)
            for name in archive.namelist()
            if not name.endswith("/.data/serialization_id")
        }


def _plain(content: bytes, ids: Mapping[str, str]) -> bytes:
    for own, name in ids.items():
        content = content.replace(own.encode(), name.encode())
    for pattern, instead in NOT_THE_SAME.items():
        content = pattern.sub(instead, content)
    return content


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield each place at which two answers differ, with what is there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from differences(one.get(name), other.get(name), f"{where}/{name}")
    elif one != other:
        pairs = zip(str(one), str(other), strict=False)
        start = next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), 0)
        seen = slice(max(0, start - 40), start + 120)
        yield f"{where}: {str(one)[seen]} != {str(other)[seen]}"
