"""The open run as MLflow shows it: what this process knows of it, and what it keeps."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from mlflow.entities import (
    DatasetInput,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from mlflow.utils.validation import _validate_batch_log_data, _validate_param_keys_unique

from sweeptrail.outbox.plugin.models import Models
from sweeptrail.outbox.plugin.open_run import (
    EXPERIMENT_ID,
    NoOpenRunError,
    OpenRun,
    artifact_uri,
    artifacts_of,
    current,
)
from sweeptrail.outbox.plugin.refusals import refuse
from sweeptrail.tracking import tags as own_tags
from sweeptrail.tracking.facts import Dataset


class Session:
    """One run; several threads may log to it at a time."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self.models = Models(run)
        self.trials: dict[str, Session] = {}
        """Runs that autologging makes of a parameter search, by their ids."""
        self._began = round(time.time() * 1000)
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._metrics: dict[str, list[Metric]] = {}
        self._inputs = RunInputs([], [])
        self._outputs = RunOutputs([])
        self._lock = threading.RLock()

    @property
    def params(self) -> dict[str, str]:
        return {**self.run.params, **self._params}

    def log(self, metrics: Iterable[Metric], params: Iterable[Param], tags: Iterable[RunTag]) -> None:
        """Keep it, all or, when MLflow would refuse some of it, nothing."""
        metrics, params, tags = _validate_batch_log_data(list(metrics), list(params), list(tags))
        _validate_param_keys_unique(params)
        if protected := [tag.key for tag in tags if is_protected(tag.key)]:
            raise MlflowException(
                f"set_tag: {protected[0]!r} is a tag that sweeptrail sets itself; choose another name",
                error_code=INVALID_PARAMETER_VALUE,
            )
        with self._lock:
            self._log_params(params)
            self._log_tags({tag.key: tag.value for tag in tags})
            self._log_metrics([metric for metric in metrics if not self._is_repeated(metric)])

    def add_inputs(self, datasets: Iterable[DatasetInput], models: Iterable[LoggedModelInput]) -> None:
        """Keep which data the run used; which models it used is known only here."""
        with self._lock:
            for each in datasets:
                if (dataset := _dataset(each)) not in map(_dataset, self._inputs.dataset_inputs):
                    self._inputs.dataset_inputs.append(each)
                    self.run.add_dataset(dataset)
            self._inputs.model_inputs.extend(models)

    def add_outputs(self, models: Iterable[LoggedModelOutput]) -> None:
        """Remember which models the run has made."""
        self._outputs.model_outputs.extend(models)

    def history(self, metric: str) -> list[Metric]:
        """Return every measurement of a metric in this process."""
        return list(self._metrics.get(metric, []))

    def keep_file(self, path: Path) -> None:
        """Have a file delivered that lies among the run's artifacts."""
        folder = path.parent.relative_to(artifacts_of(self.run)).as_posix()
        with self._lock:
            self.run.log_artifact(path, "" if folder == "." else folder)

    def info(self) -> RunInfo:
        """Return the run's facts; it is RUNNING until its task returns, whoever says otherwise."""
        return RunInfo(
            run_id=self.run.run_id,
            experiment_id=EXPERIMENT_ID,
            user_id=self.run.tags.get("mlflow.user", "unknown"),
            status="RUNNING",
            start_time=self._began,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=artifact_uri(artifacts_of(self.run)),
            run_name=self.run.name,
        )

    def as_mlflow(self) -> Run:
        """Return the run as MLflow has it."""
        with self._lock:
            latest = [max(values, key=_moment) for values in self._metrics.values()]
            params = [Param(name, value) for name, value in self.params.items()]
            tags = {"mlflow.runName": self.run.name, **self.run.tags, **self._tags}
            data = RunData(latest, params, [RunTag(name, value) for name, value in tags.items()])
            inputs = RunInputs(list(self._inputs.dataset_inputs), list(self._inputs.model_inputs))
            return Run(self.info(), data, inputs, RunOutputs(list(self._outputs.model_outputs)))

    def _log_params(self, params: Iterable[Param]) -> None:
        known = self.params
        for param in params:
            if known.get(param.key, param.value) != param.value:
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key={param.key!r} was already logged with "
                    f"value={known[param.key]!r} for the run {self.run.name}. "
                    f"Attempted logging new value {param.value!r}.",
                    error_code=INVALID_PARAMETER_VALUE,
                )
        if new := {param.key: param.value for param in params if param.key not in known}:
            self._params |= new
            self.run.log_params(new)

    def _log_tags(self, tags: dict[str, str]) -> None:
        if tags:
            self._tags |= tags
            self.run.set_tags(tags)

    def _log_metrics(self, metrics: Iterable[Metric]) -> None:
        for (step, timestamp), group in groupby(metrics, key=lambda metric: (metric.step, metric.timestamp)):
            for values in _without_repeated_names(group):
                self.run.log_metrics({metric.key: metric.value for metric in values}, step, timestamp / 1000)
                for metric in values:
                    self._metrics.setdefault(metric.key, []).append(metric)

    def _is_repeated(self, metric: Metric) -> bool:
        """Tell whether a metric is here already: MLflow logs those of a model for the run and for the model."""
        if not metric.model_id:
            return False
        wanted = (metric.step, metric.timestamp, metric.value)
        return any((each.step, each.timestamp, each.value) == wanted for each in self._metrics.get(metric.key, []))


@dataclass(frozen=True)
class Trial:
    """A run that is kept nowhere: what autologging makes of each combination that a parameter search has tried.

    The table of all of them is an artifact of the run itself, `cv_results.csv`.
    """

    run_id: str
    folder: Path
    name: str = "trial"
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def log_metrics(self, values: Mapping[str, float], step: int, time: float) -> None: ...

    def log_params(self, values: Mapping[str, str]) -> None: ...

    def set_tags(self, values: Mapping[str, str]) -> None: ...

    def log_artifact(self, path: Path, to: str) -> None: ...

    def add_dataset(self, dataset: Dataset) -> None: ...


_sessions: list[Session] = []
"""That of the open run, once MLflow was called; those before it are of runs in whose task a sweep runs."""
_making = threading.Lock()


def session(call: str = "", run_id: str = "") -> Session:
    """Return what is known of the open run, or of one of its trials.

    Raises MlflowException if no run is open here, or `call` is about another one.
    """
    try:
        run = current()
    except NoOpenRunError as error:
        raise MlflowException(str(error)) from error
    with _making:
        known = next((each for each in _sessions if each.run is run), None)
        if known is None:
            known = Session(run)
            _sessions.append(known)
    if run_id in ("", run.run_id):
        return known
    return known.trials.get(run_id) or refuse(f"{call} of another run ({run_id})")


def forget(run: OpenRun) -> None:
    """Drop what was known of a run that is over."""
    _sessions[:] = [each for each in _sessions if each.run is not run]


def is_protected(tag: str) -> bool:
    """Tell whether a tag is ours: who runs what, as what, below which sweep."""
    return tag.startswith(("sweeptrail.", "mlflow.source.")) or tag in (
        own_tags.PARENT_RUN_ID,
        "mlflow.runName",
        "mlflow.user",
    )


def _moment(metric: Metric) -> tuple[int, int, float]:
    """Order the measurements of a metric; MLflow shows the last one."""
    return metric.step, metric.timestamp, metric.value


def _without_repeated_names(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    """Split measurements into pieces in which each metric is there once."""
    piece: dict[str, Metric] = {}
    for metric in metrics:
        if metric.key in piece:
            yield list(piece.values())
            piece = {}
        piece[metric.key] = metric
    yield list(piece.values())


def _dataset(given: DatasetInput) -> Dataset:
    dataset = given.dataset
    return Dataset(
        name=dataset.name,
        digest=dataset.digest,
        source=dataset.source,
        profile=json.loads(dataset.profile) if dataset.profile else {},
        source_type=dataset.source_type,
        schema=dataset.schema or "",
        context=next((tag.value for tag in given.tags or [] if tag.key == MLFLOW_DATASET_CONTEXT), ""),
    )
