"""Logged models, and what runs use and make of them, told so that telling it again changes nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, LoggedModelStatus

from sweeptrail.tracking.client_errors import answering
from sweeptrail.tracking.tags import IDENTITY


class LoggedModels:
    """Those of one tracking server; every method may be called again after it failed."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client = client
        self._uri = uri

    def make(
        self,
        experiment_id: str,
        *,
        identity: str,
        name: str,
        kind: str,
        run_id: str | None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Return the id of the model that carries this identity, made if it is new."""
        with answering(self._uri):
            found = self._client.search_logged_models([experiment_id], f"tags.`{IDENTITY}` = '{identity}'")
            if not found:
                given = {**tags, IDENTITY: identity}
                found.append(
                    self._client.create_logged_model(experiment_id, name, run_id, given, dict(params), kind or None)
                )
        return str(found[0].model_id)

    def location(self, model_id: str) -> str:
        """Return the address of a model's files."""
        with answering(self._uri):
            return str(self._client.get_logged_model(model_id).artifact_location)

    def change(
        self, model_id: str, *, params: Mapping[str, str], tags: Mapping[str, str], no_tag: str, status: str
    ) -> None:
        """Give a model params and tags, take a tag away, or say that it is ready."""
        with answering(self._uri):
            known = self._client.get_logged_model(model_id)
            if new := {name: value for name, value in params.items() if name not in known.params}:
                self._client.log_model_params(model_id, new)
            if tags:
                self._client.set_logged_model_tags(model_id, dict(tags))
            if no_tag in known.tags:
                self._client.delete_logged_model_tag(model_id, no_tag)
            if status and str(known.status) != status:
                self._client.finalize_logged_model(model_id, LoggedModelStatus(status))

    def add_inputs(self, run_id: str, datasets: Iterable[Mapping[str, Any]], models: Iterable[str]) -> None:
        """Tell which data sets and models a run used."""
        with answering(self._uri):
            inputs = self._client.get_run(run_id).inputs
            used = {each.model_id for each in inputs.model_inputs} if inputs else set()
            given = [
                DatasetInput(Dataset(**each["dataset"]), [InputTag(*tag) for tag in each["tags"].items()])
                for each in datasets
            ]
            new = [LoggedModelInput(each) for each in models if each not in used]
            if given or new:
                self._client.log_inputs(run_id, given, new)

    def add_outputs(self, run_id: str, models: Mapping[str, int]) -> None:
        """Tell which models a run has made, at which steps."""
        with answering(self._uri):
            outputs = self._client.get_run(run_id).outputs
            made = {each.model_id for each in outputs.model_outputs} if outputs else set()
            if new := [LoggedModelOutput(model, step) for model, step in models.items() if model not in made]:
                self._client.log_outputs(run_id, new)
