"""The tracking server as the courier speaks to it, through MLflow's client.

That client takes an empty answer for a yes, and for "there is no such run". So whatever is told over
the network is asked for again, and what the server cannot show then counts as not told.
"""

import atexit
import gc
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, entities
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from sweeptrail.errors import RefusedError
from sweeptrail.tracking import registry, rest, tags
from sweeptrail.tracking.client_errors import REFUSALS, answering
from sweeptrail.tracking.facts import Candidate, Dataset, Expected, Measurement
from sweeptrail.tracking.logged_models import LoggedModels
from sweeptrail.tracking.sqlite import keep_artifacts_beside, make_database, quietly

__all__ = ["PAGE", "Run", "TrackingServer"]

# Python would look for garbage in all that MLflow has loaded before it ends, which takes 0.7 s.
atexit.register(gc.freeze)

PAGE = 2000
"""How many runs to ask for at once: 7 MB; MLflow answers up to 50,000, and to a full page one more request is due."""


class TrackingServer:
    """One tracking server; every method may be called again after it failed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_remote = uri.startswith("http")
        self._files: dict[str, ArtifactRepository] = {}
        self._artifact_uris: dict[str, str] = {}
        """Where the artifacts of each run are, as far as an answer has told it."""
        with answering(self.uri), quietly():
            make_database(uri)

    @cached_property
    def _client(self) -> MlflowClient:
        with quietly():
            return rest.make_client(self.uri)

    @property
    def store(self) -> Any:
        """MLflow's own store for the server."""
        return self._client._tracking_client.store

    @cached_property
    def models(self) -> LoggedModels:
        """Its logged models."""
        return LoggedModels(self._client, self.uri)

    @property
    def registry_store(self) -> Any:
        """MLflow's own store of its model registry."""
        return self._client._get_registry_client().store  # type: ignore[no-untyped-call]

    def experiment_id(self, experiment: Mapping[str, str]) -> str:
        """Return the id of the experiment with this `id` or `name`, made if it is new; else MLflow's default."""
        if not (name := experiment.get("name")):
            return experiment.get("id", "0")
        with answering(self.uri):
            try:
                return _given(self._client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                    raise
            found = self._client.get_experiment_by_name(name)
            return _given(found.experiment_id) if found else "0"

    def find(self, experiment_id: str, identity: str) -> str | None:
        """Return the id of the run that carries this identity, if there is one."""
        with answering(self.uri):
            if self.is_remote:
                _given(self._client.get_experiment(experiment_id).experiment_id)
            runs = self._carrying(experiment_id, identity, ViewType.ACTIVE_ONLY)
        return runs[0].info.run_id if runs else None

    def get(self, run_id: str) -> Run:
        """Return what the server knows of a run."""
        with answering(self.uri):
            run = self._client.get_run(run_id)
            self._artifact_uris[_given(run.info.run_id)] = run.info.artifact_uri or ""
        return run

    def children(self, parent: Run) -> list[Run]:
        """Return the nested runs of a run."""
        found: list[Run] = []
        token = None
        while token != "":
            with answering(self.uri):
                page = self._client.search_runs(
                    [parent.info.experiment_id],
                    f"tags.`{tags.PARENT_RUN_ID}` = '{parent.info.run_id}'",
                    ViewType.ACTIVE_ONLY,
                    max_results=PAGE,
                    page_token=token,
                )
            found += page
            token = page.token or ""
        return found

    def history(self, run_id: str, metric: str) -> list[Metric]:
        """Return every measurement of a metric."""
        with answering(self.uri):
            return list(self._client.get_metric_history(run_id, metric))

    def create(self, experiment_id: str, *, name: str, time: int, tags: Mapping[str, str]) -> str:
        """Create a run that began at this time, in milliseconds, and return its id."""
        with answering(self.uri):
            run = self._client.create_run(experiment_id, start_time=time, tags=dict(tags), run_name=name)
            run_id = _given(run.info.run_id)
            self._artifact_uris[run_id] = run.info.artifact_uri or ""
            return run_id

    def log(
        self,
        run_id: str,
        *,
        metrics: list[Measurement],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Tell a run what one request may hold."""
        measured = [Metric(*each[:4], *(item or None for item in each[4:])) for each in metrics]
        given = [Param(name, value) for name, value in params.items()]
        tagged = [RunTag(name, value) for name, value in tags.items()]
        with answering(self.uri):
            self._client.log_batch(run_id, measured, given, tagged)

    def upload(self, owner: str, path: Path, to: str) -> int:
        """Store a file among the artifacts of a run or a logged model, in the folder `to`; return its size."""
        if not path.is_file():
            raise RefusedError(f"{path}: the file is gone")
        size = path.stat().st_size
        with answering(self.uri):
            self._files_of(owner).log_artifact(str(path), to or None)  # type: ignore[no-untyped-call]  # MLflow has no types for it
        return size

    def confirm(self, run_id: str, told: Expected) -> None:
        """Raise DeliveryError if a run does not show what it was told."""
        if not self.is_remote:
            return
        with answering(self.uri, refusals=()):  # whether the run is gone shows when it is told again
            run = self._client.get_run(run_id)
            _expect(run.info.run_id == run_id and _has(run, told))
            latest = {(metric.key, metric.timestamp, metric.step) for metric in run.data.to_proto().metrics}
            for request in told.metrics:
                if latest.isdisjoint(request):  # a run shows the value at the highest step of a name
                    name, time, step = request[-1]
                    history = self._client.get_metric_history(run_id, name)
                    _expect(any((item.timestamp, item.step) == (time, step) for item in history))

    def confirm_files(self, owner: str, folder: str, sizes: Mapping[str, int]) -> None:
        """Raise DeliveryError if a folder of the artifacts of a run, or a model, has not these files in these sizes."""
        if not self.is_remote:
            return
        with answering(self.uri):
            found = self._files_of(owner).list_artifacts(folder or None)
            stored = {Path(item.path).name: item.file_size for item in found}
            # None: a store that does not tell sizes
            _expect(all(stored.get(name, -1) in (size, None) for name, size in sizes.items()))

    def files(self, run: Run, folder: str) -> dict[str, int | None]:
        """Return the size of each file in a folder of a run's artifacts; None where the store does not tell it."""
        with answering(self.uri):
            found = rest.artifacts_at(run.info.artifact_uri, self.uri).list_artifacts(folder)
        return {item.path.removeprefix(f"{folder}/"): item.file_size for item in found if not item.is_dir}

    def download(self, run: Run, path: str, into: Path) -> Path:
        """Copy a file from the artifacts of a run into a folder, below the same path; return where it is."""
        with answering(self.uri):
            return rest.download(rest.artifacts_at(run.info.artifact_uri, self.uri), path, into)

    def register(self, run_id: str, sweep_run_id: str, candidate: Candidate) -> None:
        """Make the artifacts `model` of a run a version of a registered model, and the champion if it is better."""
        # 403: the model belongs to somebody else, whom waiting does not change.
        with answering(self.uri, REFUSALS | {403}):
            registry.register(self._client, run_id, sweep_run_id, candidate)

    def fetch_model(self, uri: str, folder: Path) -> Path:
        """Bring the files of `models:/...` or `runs:/...` into a folder and return where they lie."""
        with answering(self.uri):
            return rest.download(self._model_files(uri), "", folder)

    def _model_files(self, uri: str) -> ArtifactRepository:
        """Return where the files of a model are."""
        location = registry.location(self._client, uri)
        if location.startswith("runs:/"):
            run_id, _, path = location.removeprefix("runs:/").partition("/")
            location = f"{self._client.get_run(run_id).info.artifact_uri}/{path}"
        return rest.artifacts_at(location, self.uri)

    def _files_of(self, owner: str) -> ArtifactRepository:
        """Return where the artifacts of a run, or of a logged model, are, by its id.

        MLflow's client would ask each time, and remember an empty answer for as long as the process lives.
        """
        if owner not in self._files:
            if owner.startswith("m-"):
                uri = self._client.get_logged_model(owner).artifact_location
            else:
                uri = self._artifact_uris.get(owner) or self._client.get_run(owner).info.artifact_uri
            self._files[owner] = rest.artifacts_at(_given(uri), self.uri)
        return self._files[owner]

    def add_dataset(self, run_id: str, dataset: Dataset) -> None:
        """Tell which data a run used."""
        with answering(self.uri):
            context = [InputTag("mlflow.data.context", dataset.context)] if dataset.context else []
            self._client.log_inputs(run_id, [DatasetInput(_as_mlflow(dataset), context)])

    def make_experiment(self, name: str, tags: Mapping[str, str], artifact_location: str) -> str:
        """Have an experiment exist, with these tags, and return its id; the location counts only for a new one."""
        keep_artifacts_beside(self.store, self.uri)
        with answering(self.uri):
            if not (found := self._client.get_experiment_by_name(name)):
                return _given(self._client.create_experiment(name, artifact_location or None, dict(tags)))
            for each in tags.items():
                self._client.set_experiment_tag(found.experiment_id, *each)
            return _given(found.experiment_id)

    def remove_tag(self, run_id: str, name: str) -> None:
        """Take a tag from a run, if it has it."""
        with answering(self.uri):
            if name in self._client.get_run(run_id).data.tags:
                self._client.delete_tag(run_id, name)

    def reopen(self, run_id: str) -> None:
        """Say that a run goes on."""
        with answering(self.uri):
            self._client.update_run(run_id, status="RUNNING")
            self._confirm(run_id, lambda run: run.info.status == "RUNNING")

    def close(self, run_id: str, status: str, time: int) -> None:
        """Say how a run ended, and when, in milliseconds."""
        with answering(self.uri):
            self._client.set_terminated(run_id, status, time)
            self._confirm(run_id, lambda run: (run.info.status, run.info.end_time) == (status, time))

    def remove_twins(self, run_id: str) -> None:
        """Remove what a creation has left that was given up and carried out all the same: a run with nothing in it."""
        with answering(self.uri):
            run = self._client.get_run(run_id)
            _expect(run.info.run_id == run_id)
            if not (identity := run.data.tags.get(tags.IDENTITY)):
                return
            runs = self._carrying(run.info.experiment_id, identity, ViewType.ALL)
            _expect(run_id in [found.info.run_id for found in runs])
            for twin in runs:
                is_empty = not (twin.data.params or twin.data.metrics)
                if twin.info.run_id != run_id and twin.info.lifecycle_stage == "active" and is_empty:
                    self._client.delete_run(twin.info.run_id)

    def _carrying(self, experiment_id: str, identity: str, view: int) -> list[Run]:
        return list(self._client.search_runs([experiment_id], f"tags.`{tags.IDENTITY}` = '{identity}'", view))

    def _confirm(self, run_id: str, shows: Callable[[Run], bool]) -> None:
        if self.is_remote:
            run = self._client.get_run(run_id)
            _expect(run.info.run_id == run_id and shows(run))


def _has(run: Run, told: Expected) -> bool:
    """Tell whether a run has these params, tags and datasets; MLflow cuts values that are too long for it."""
    tagged = all(run.data.tags.get(name, "")[:1000] == value[:1000] for name, value in told.tags.items())
    used = [found.dataset for found in run.inputs.dataset_inputs] if run.inputs else []
    return tagged and told.params <= run.data.params.keys() and all(_as_mlflow(each) in used for each in told.datasets)


def _as_mlflow(dataset: Dataset) -> entities.Dataset:
    return entities.Dataset(
        name=dataset.name,
        digest=dataset.digest,
        source_type=dataset.source_type or "local",
        source=dataset.source if dataset.source_type else json.dumps({"uri": dataset.source}),
        schema=dataset.schema or None,
        profile=json.dumps(dataset.profile) if dataset.profile else None,
    )


def _expect(told: bool) -> None:
    if not told:
        raise ConnectionError("the server has not got what it said it took")


def _given(value: str | None) -> str:
    _expect(bool(value))
    return str(value)
