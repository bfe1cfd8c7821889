"""The tracking server as the courier speaks to it, through MLflow's client."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from sweeptrail.errors import DeliveryError, RefusedError
from sweeptrail.outbox.entries import IDENTITY_TAG
from sweeptrail.tracking import without_credentials

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own seven retries block one call for four minutes; the courier comes again by itself."""

REFUSALS = frozenset({400, 404, 405, 409, 413, 422})
"""HTTP answers after which sending the same again cannot help."""

METRICS, PARAMS, TAGS = 1000, 100, 100
"""What one log_batch may hold (MLflow's REST API, "Request Limits"): so many of each, 1,000 in all."""


class TrackingServer:
    """One tracking server; every method may be called again after it failed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        # The store says for each start that it creates or upgrades its tables; nobody here asked.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        with self._answering():
            self._client = MlflowClient(tracking_uri=uri)

    def experiment_id(self, experiment: Mapping[str, str]) -> str:
        """Return the id of the experiment with this `id` or `name`, made if it is new; else MLflow's default."""
        if not (name := experiment.get("name")):
            return experiment.get("id", "0")
        with self._answering():
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                    raise
            found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else "0"

    def find(self, experiment_id: str, identity: str) -> str | None:
        """Return the id of the run that carries this identity, if there is one."""
        with self._answering():
            runs = self._client.search_runs(
                [experiment_id], f"tags.`{IDENTITY_TAG}` = '{identity}'", ViewType.ACTIVE_ONLY, max_results=1
            )
        return runs[0].info.run_id if runs else None

    def get(self, run_id: str) -> Run:
        """Return what the server knows of a run."""
        with self._answering():
            return self._client.get_run(run_id)

    def create(self, experiment_id: str, *, name: str, time: int, tags: Mapping[str, str]) -> str:
        """Create a run that began at this time, in milliseconds, and return its id."""
        with self._answering():
            run = self._client.create_run(experiment_id, start_time=time, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        *,
        metrics: list[tuple[str, float, int, int]],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Log any number of metrics (name, value, time in milliseconds, step), params and tags of a run."""
        measured = [Metric(*metric) for metric in metrics]
        given = [Param(name, value) for name, value in params.items()]
        tagged = [RunTag(name, value) for name, value in tags.items()]
        with self._answering():
            while measured or given or tagged:
                room = METRICS - len(given[:PARAMS]) - len(tagged[:TAGS])
                self._client.log_batch(run_id, measured[:room], given[:PARAMS], tagged[:TAGS])
                measured, given, tagged = measured[room:], given[PARAMS:], tagged[TAGS:]

    def upload(self, run_id: str, path: Path, to: str) -> None:
        """Store a file among the artifacts of a run, in the folder `to`."""
        if not path.is_file():
            raise RefusedError(f"{path}: the file is gone")
        with self._answering():
            self._client.log_artifact(run_id, str(path), to or None)

    def add_dataset(self, run_id: str, entry: Mapping[str, Any]) -> None:
        """Say which data a run used."""
        dataset = Dataset(
            name=entry["name"],
            digest=entry["digest"],
            source_type="local",
            source=json.dumps({"uri": entry["source"]}),
            profile=json.dumps(entry["profile"]),
        )
        with self._answering():
            context = [InputTag("mlflow.data.context", "training")]
            self._client.log_inputs(run_id, [DatasetInput(dataset, context)])

    def reopen(self, run_id: str) -> None:
        """Say that a run goes on."""
        with self._answering():
            self._client.update_run(run_id, status="RUNNING")

    def close(self, run_id: str, status: str, time: int) -> None:
        """Say how a run ended, and when, in milliseconds."""
        with self._answering():
            self._client.set_terminated(run_id, status, time)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what MLflow raises into DeliveryError (come again) or RefusedError (never)."""
        before = {name: os.environ.get(name) for name in PATIENCE}
        os.environ.update(PATIENCE)
        try:
            yield
        except MlflowException as error:
            code = error.get_http_status_code()  # type: ignore[no-untyped-call]
            kind = RefusedError if code in REFUSALS else DeliveryError
            raise kind(f"{without_credentials(self.uri)}: {root_cause(error)}") from error
        except Exception as error:  # of requests, SQLAlchemy, an artifact store: the next attempt may succeed
            raise DeliveryError(f"{without_credentials(self.uri)}: {root_cause(error)}") from error
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def root_cause(error: BaseException) -> str:
    """Return the first line of what an error goes back to; MLflow and urllib3 wrap it in pages."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
