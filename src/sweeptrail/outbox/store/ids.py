"""The ids that runs, logged models and experiments have here, and on the server."""

import copy
import dataclasses
import re
from typing import Any, TypeVar

from mlflow.entities import Experiment, LoggedModel, Run, Trace, TraceInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

from sweeptrail.outbox.machine.outbox import Outbox
from sweeptrail.outbox.store.asking import NotDeliveredError
from sweeptrail.tracking import rest
from sweeptrail.tracking.tags import IDENTITY, PARENT_RUN_ID

IDS = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b|\bsweeptrail-[0-9a-f]{16}\b")
"""What may be an id of ours, in an argument or a filter."""


SOURCE_RUN = "mlflow.sourceRun"
"""What of a trace names the run that it was made in."""

Answer = TypeVar("Answer")


class Ids:
    """Translates them, in questions and in answers."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def experiment(self, experiment_id: str) -> str:
        """Return the id that an experiment has here, by any of its two."""
        known = self._outbox.experiments.by_id(experiment_id)
        return known.id if known else experiment_id

    def run(self, run_id: str) -> str:
        """Return the id of a run on the server. Raises NotDeliveredError while it has none."""
        if not self._outbox.place.has(run_id):
            return run_id
        if (found := self._outbox.state(run_id).run_id) is None:
            raise NotDeliveredError(f"the run {run_id} is not on the tracking server yet")
        return found

    def model(self, model_id: str) -> str:
        """Return the id of a logged model on the server. Raises NotDeliveredError while it has none."""
        if not (owner := self._outbox.place.owner_of(model_id)):
            return model_id
        if (found := self._outbox.state(owner).models.get(model_id)) is None:
            raise NotDeliveredError(f"the logged model {model_id} is not on the tracking server yet")
        return found

    def to_server(self, value: Any) -> Any:
        """Return an argument with the server's ids for ours, wherever they are in it.

        Raises NotDeliveredError while one has none.
        """
        if isinstance(value, str):
            return IDS.sub(lambda found: self._id(found.group()), value)
        if isinstance(value, list | tuple):
            return type(value)(map(self.to_server, value))
        if isinstance(value, dict):
            return {name: self.to_server(each) for name, each in value.items()}
        if isinstance(value, TraceInfo):
            place = copy.deepcopy(value.trace_location)
            if place.mlflow_experiment:
                place.mlflow_experiment.experiment_id = self.to_server(place.mlflow_experiment.experiment_id)
            metadata = self.to_server(value.trace_metadata)
            return dataclasses.replace(value, trace_location=place, trace_metadata=metadata)
        return value

    def _id(self, own_id: str) -> str:
        if own_id.startswith("sweeptrail-"):
            known = self._outbox.experiments.by_id(own_id)
            if known and not known.server_id:
                raise NotDeliveredError(f"the experiment {known.name!r} is not on the tracking server yet")
            return known.server_id if known else own_id
        return self.model(own_id) if own_id.startswith("m-") else self.run(own_id)

    def from_server(self, answer: Answer) -> Answer:
        """Return an answer with the ids that things have here, and artifacts at addresses that MLflow can read."""
        if isinstance(answer, Run):
            self._run_from_server(answer)
        elif isinstance(answer, LoggedModel):
            self._model_from_server(answer)
        elif isinstance(answer, Experiment):
            answer._experiment_id = self.experiment(answer.experiment_id)
        elif isinstance(answer, Trace | TraceInfo):
            self._trace_from_server(answer.info if isinstance(answer, Trace) else answer)
        elif isinstance(answer, list):
            for each in answer:
                self.from_server(each)
        return answer

    def _run_from_server(self, run: Run) -> None:
        own_id = run.data.tags.get(IDENTITY, "")
        info = run.info
        info._experiment_id = self.experiment(info.experiment_id)
        if self._outbox.place.has(own_id) and self._outbox.state(own_id).run_id == info.run_id:
            info._run_id = own_id
        info._artifact_uri = self.location(info.artifact_uri)
        if parent := self.own_run(run.data.tags.get(PARENT_RUN_ID, "")):
            run.data.tags[PARENT_RUN_ID] = parent

    def own_run(self, server_id: str) -> str:
        """Return the id here of a run that this process has asked for by it; empty if it has not."""
        return self._outbox.own_id(server_id)

    def _model_from_server(self, model: LoggedModel) -> None:
        own_id = model.tags.get(IDENTITY, "")
        model._experiment_id = self.experiment(model.experiment_id)
        if self._outbox.place.owner_of(own_id):
            model._model_id = own_id
        if source := self.own_run(model.source_run_id or ""):
            model._source_run_id = source
        model._artifact_location = self.location(model.artifact_location)

    def _trace_from_server(self, trace: TraceInfo) -> None:
        if place := trace.trace_location.mlflow_experiment:
            place.experiment_id = self.experiment(place.experiment_id)
        if run := self.own_run(trace.trace_metadata.get(SOURCE_RUN, "")):
            trace.trace_metadata[SOURCE_RUN] = run
        if location := trace.tags.get(MLFLOW_ARTIFACT_LOCATION):
            trace.tags[MLFLOW_ARTIFACT_LOCATION] = self.location(location)

    def location(self, uri: str) -> str:
        """Return an address of artifacts, without MLflow's scheme for those on the server that it was asked at."""
        return rest.plain_location(uri, self._outbox.place.uri)

    def unknown(self, run_id: str, why: str) -> MlflowException:
        """Return the error for a run that only the server could know."""
        return MlflowException(
            f"Run {run_id!r} is not known on this machine, and the tracking server does not answer ({why})",
            error_code=RESOURCE_DOES_NOT_EXIST,
        )
