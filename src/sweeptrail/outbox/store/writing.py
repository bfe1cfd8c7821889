"""What is written: checked as MLflow's server would, and in the journal when the call returns."""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from mlflow.entities import DatasetInput, LoggedModelInput, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.validation import _validate_batch_log_data, _validate_metric, _validate_param_keys_unique

from sweeptrail.outbox.entries import (
    VERSION,
    Closed,
    Entry,
    Inputs,
    LinkedMetrics,
    Metrics,
    NoTag,
    Opened,
    Params,
    Tags,
)
from sweeptrail.outbox.store.reading import Reader
from sweeptrail.tracking.tags import RUN_NAME

ENDS = ("FINISHED", "FAILED", "KILLED")


class WrittenRuns:
    """The runs that this process writes to."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._outbox = reader.outbox
        self._known: set[str] = set()

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Keep one measurement."""
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        self._write(run_id, _as_entry([metric]))

    def log(self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """Keep it, all or, when MLflow would refuse some of it, nothing."""
        metrics, params, tags = _validate_batch_log_data(list(metrics), list(params), list(tags))
        _validate_param_keys_unique(params)
        entries: list[Entry] = []
        if params and (new := self._new_params(run_id, params)):
            entries.append(Params(new))
        if tags:
            entries.append(Tags({tag.key: tag.value for tag in tags}))
        self._write(run_id, *entries, *_measured(metrics))

    def _new_params(self, run_id: str, params: list[Param]) -> dict[str, str]:
        facts = self._outbox.facts(self.own(run_id))
        known = facts.params if facts else {}
        for param in params:
            if known.get(param.key, param.value) != param.value:
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key={param.key!r} was already logged with "
                    f"value={known[param.key]!r} for run ID={run_id!r}. Attempted logging new value {param.value!r}.",
                    error_code=INVALID_PARAMETER_VALUE,
                )
        return {param.key: param.value for param in params if param.key not in known}

    def remove_tag(self, run_id: str, name: str) -> None:
        """Keep that a tag goes. Raises MlflowException if the run has none of this name."""
        facts = self._outbox.facts(self.own(run_id))
        if facts is None or name not in facts.tags:
            raise MlflowException(
                f"No tag with name: {name} in run with id {run_id}", error_code=INVALID_PARAMETER_VALUE
            )
        self._write(run_id, NoTag(name))

    def update(self, run_id: str, status: int | None, end_time: int | None, name: str | None) -> str:
        """Keep that a run goes on, or ends, or has another name; return its id here."""
        own_id = self.own(run_id)
        entries: list[Entry] = [Tags({RUN_NAME: name})] if name else []
        word = RunStatus.to_string(status) if status is not None else ""
        facts = self._outbox.facts(own_id)
        assert facts is not None
        assert facts.opened is not None
        if word in ENDS and (facts.is_running or facts.is_adopted or facts.status != word):
            entries.append(Closed(word, end_time or round(time.time() * 1000)))  # type: ignore[arg-type]  # one of ENDS
        elif word == "RUNNING" and not facts.is_running:
            opened = facts.opened
            entries.append(Opened(own_id, opened.name, opened.time, experiment=opened.experiment, version=VERSION))
        elif word not in ("", "RUNNING", *ENDS):
            raise MlflowException(
                f"update_run: expected one of RUNNING, {', '.join(ENDS)}, got {word}", INVALID_PARAMETER_VALUE
            )
        if entries:
            self._outbox.write(own_id, *entries)
        return own_id

    def add_inputs(self, run_id: str, datasets: Iterable[DatasetInput], models: Iterable[LoggedModelInput]) -> None:
        """Keep which data and models a run used."""
        given = [
            {"dataset": dict(each.dataset), "tags": {tag.key: tag.value for tag in each.tags or []}}
            for each in datasets
        ]
        self._write(run_id, Inputs(given, [each.model_id for each in models]))

    def write(self, run_id: str, *entries: Entry) -> None:
        """Keep records of a run."""
        self._write(run_id, *entries)

    def _write(self, run_id: str, *entries: Entry) -> None:
        if entries:
            self._outbox.write(run_id if run_id in self._known else self.own(run_id), *entries)

    def own(self, run_id: str) -> str:
        """Return the id here of a run that is to be written to; one of the server's is taken up.

        Raises MlflowException if nobody who answers knows it.
        """
        if run_id in self._known:
            return run_id
        if self._outbox.place.has(run_id):
            self._known.add(run_id)
            return run_id
        if own_id := self._outbox.own_id(run_id):
            return own_id
        run = self._reader.run(run_id)
        info = run.info
        return self._outbox.take_up(
            self._reader.known_experiment(info.experiment_id),
            run_id,
            name=info.run_name or "",
            time=info.start_time or 0,
            tags=run.data.tags,
            params=run.data.params,
        )


def _measured(metrics: Iterable[Metric]) -> Iterator[Entry]:
    """Yield a record for each step and time, of what was measured on the same."""
    for _, group in groupby(metrics, key=_alike):
        piece: dict[str, Metric] = {}
        for metric in group:
            if metric.key in piece:
                yield _as_entry(list(piece.values()))
                piece = {}
            piece[metric.key] = metric
        yield _as_entry(list(piece.values()))


def _alike(metric: Metric) -> tuple[Any, ...]:
    return metric.step, metric.timestamp, metric.model_id, metric.dataset_name, metric.dataset_digest


def _as_entry(metrics: list[Metric]) -> Entry:
    first = metrics[0]
    values = {metric.key: metric.value for metric in metrics}
    if not (first.model_id or first.dataset_name):
        return Metrics(values, first.step, first.timestamp)
    dataset = (first.dataset_name, first.dataset_digest or "") if first.dataset_name else None
    return LinkedMetrics(values, first.step, first.timestamp, first.model_id or "", dataset)
