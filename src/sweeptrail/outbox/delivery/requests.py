"""What each kind of record asks of the tracking server."""

import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweeptrail.errors import RefusedError
from sweeptrail.outbox.delivery.opening import open_run, run_id_of
from sweeptrail.outbox.delivery.runs import MODELS, SCHEME, KnownRuns
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import (
    Artifact,
    Closed,
    Dataset,
    Decided,
    Entry,
    Experiment,
    Inputs,
    Link,
    LinkedMetrics,
    Metrics,
    Model,
    ModelChange,
    ModelFile,
    NoTag,
    Note,
    Opened,
    Outputs,
    Params,
    Paused,
    Tags,
    Version,
)
from sweeptrail.tracking import tags
from sweeptrail.tracking.facts import Expected, Measurement
from sweeptrail.tracking.ui_links import Where, resolve

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer

UPLOAD_INTERVAL = 10.0
"""Seconds at least between two uploads of a file that is still growing."""

MODEL_DESCRIPTION = "MLmodel"
"""The file of a model that names its ids, and where it lies."""


class Requests:
    """Tells one server what a record says."""

    def __init__(self, server: "TrackingServer", runs: KnownRuns) -> None:
        self._server = server
        self._runs = runs
        self._uploaded: dict[Path, float] = {}
        """When each growing file was last uploaded, by time.monotonic()."""

    def was_just_uploaded(self, state: DeliveryState, file: Artifact) -> bool:
        """Tell whether a file that grows was uploaded a moment ago."""
        uploaded = self._uploaded.get(state.path.parent / file.path, float("-inf"))
        return time.monotonic() - uploaded < UPLOAD_INTERVAL

    def close(self, state: DeliveryState, entry: Closed) -> "list[partial[None]]":
        """Return what ends a run; the one may be done beside the other."""
        close = partial(self._server.close, run_id_of(state), entry.status, entry.time)
        remove_twins = partial(self._server.remove_twins, run_id_of(state))
        return [close, remove_twins] if state.may_have_twin and self._server.is_remote else [close]

    def carry_out(self, state: DeliveryState, told: Expected, entry: Entry) -> None:
        """Do what a record asks for that shares no request with others."""
        match entry:
            case Opened():
                open_run(self._server, self._runs, state, entry)
            case Version():
                parent = self._runs.parent(entry.parent)
                self._server.register(run_id_of(state), run_id_of(parent), entry)
            case Dataset():
                self._server.add_dataset(run_id_of(state), entry)
                told.datasets.append(entry)
            case NoTag():
                self._server.remove_tag(run_id_of(state), entry.name)
            case Experiment():
                if not entry.id:  # else the server has told of it
                    made = self._server.make_experiment(entry.name, entry.tags, entry.artifact_location)
                    state.experiments[entry.name] = made
            case Inputs() | Outputs() | Model() | ModelChange():
                self._tell_of_models(state, entry)
            case Decided() | Paused():
                pass  # nothing changes for the server: a paused run is RUNNING there
            case _:
                raise RefusedError(f"no record of the kind {entry.kind!r} is known to this version")

    def _tell_of_models(self, state: DeliveryState, entry: Inputs | Outputs | Model | ModelChange) -> None:
        match entry:
            case Inputs():
                models = [self._runs.model_id(each) for each in entry.models]
                self._server.models.add_inputs(run_id_of(state), entry.datasets, models)
            case Outputs():
                outputs = {self._runs.model_id(model): step for model, step in entry.models.items()}
                self._server.models.add_outputs(run_id_of(state), outputs)
            case Model():
                self._make_model(state, entry)
            case ModelChange():
                self._server.models.change(
                    self._runs.model_id(entry.model),
                    params=entry.params,
                    tags=entry.tags,
                    no_tag=entry.no_tag,
                    status=entry.status,
                )

    def _make_model(self, state: DeliveryState, entry: Model) -> None:
        experiment_id = state.experiment_id
        if not entry.has_run:
            experiment_id = self._server.experiment_id(entry.experiment)
        state.models[entry.model] = self._server.models.make(
            experiment_id,
            identity=entry.model,
            name=entry.name,
            kind=entry.model_type,
            run_id=run_id_of(state) if entry.has_run else None,
            params=entry.params,
            tags=entry.tags,
        )
        state.save()

    def log(self, state: DeliveryState, told: Expected, batch: list[Entry]) -> None:
        """Tell what fits into one request."""
        metrics: list[Measurement] = []
        params: dict[str, str] = {}
        tagged: dict[str, str] = {}
        for entry in batch:
            match entry:
                case LinkedMetrics():
                    model = self._runs.model_id(entry.model) if entry.model else ""
                    dataset = entry.dataset or ("", "")
                    metrics += [
                        Measurement(name, value, entry.time, entry.step, model, *dataset)
                        for name, value in entry.values.items()
                    ]
                case Metrics():
                    metrics += [
                        Measurement(name, value, entry.time, entry.step) for name, value in entry.values.items()
                    ]
                case Params():
                    params |= {name: v for name, v in entry.values.items() if name not in state.existing_params}
                case Tags():
                    tagged |= self._runs.with_server_ids(entry.values)
                case Link():
                    where = self._runs.where(entry.identity)
                    tagged[entry.tag] = where.run_id if where else ""
                case Note():
                    own = Where(state.experiment_id, run_id_of(state))
                    tagged[tags.NOTE] = resolve(entry.text, own, self._runs.where)
        self._server.log(run_id_of(state), metrics=metrics, params=params, tags=tagged)
        told.add([(each.name, each.time, each.step) for each in metrics], params, tagged)

    def upload(self, state: DeliveryState, file: Artifact, offset: int) -> None:
        """Store a file among the artifacts of the run, or of a model."""
        path = self._runs.own_file(state, file.path)
        owner = self._runs.model_id(file.model) if isinstance(file, ModelFile) else run_id_of(state)
        if isinstance(file, ModelFile) and path.name == MODEL_DESCRIPTION:
            with tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
                copy = Path(folder, path.name)
                copy.write_bytes(self._as_on_server(path.read_bytes(), state, file.model))
                state.sent.add(file, offset, self._server.upload(owner, copy, file.to))
            return
        if not file.growing:
            state.sent.add(file, offset, self._server.upload(owner, path, file.to))
            return
        # A copy: a file that grew during the request would be longer than the request has said. Where there is
        # no file any more, or no room for a copy, the upload at the end of the run must do.
        with suppress(OSError), tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
            copy = shutil.copyfile(path, Path(folder, path.name))
            state.sent.add(file, offset, self._server.upload(owner, copy, file.to))
            self._uploaded[path] = time.monotonic()

    def confirm_files(self, state: DeliveryState, model: str, folder: str, sizes: Mapping[str, int]) -> None:
        """Raise DeliveryError if a folder of the run's artifacts, or of a model's, has not these files."""
        owner = self._runs.model_id(model) if model else run_id_of(state)
        self._server.confirm_files(owner, folder, sizes)

    def _as_on_server(self, content: bytes, state: DeliveryState, model: str) -> bytes:
        """Return the description of a model with its address on the server, and all ids that are of there."""
        location = self._server.models.location(self._runs.model_id(model)).encode()
        content = re.sub(rf"{SCHEME}:\S*/{MODELS}/{model}\b".encode(), lambda _: location, content)
        ids = {**state.models, **({state.path.parent.name: state.run_id} if state.run_id else {})}
        for own, theirs in ids.items():
            content = content.replace(own.encode(), theirs.encode())
        return content
