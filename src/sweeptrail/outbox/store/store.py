"""MLflow's tracking store for an outbox.

The methods are MLflow's, with the names that MLflow's client gives to their arguments.
"""

import time
import uuid
from collections.abc import Callable
from functools import partialmethod
from typing import Any

from mlflow.entities import (
    DatasetInput,
    Experiment,
    ExperimentTag,
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    Run,
    RunInfo,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.validation import _validate_experiment_name, _validate_logged_model_name

from sweeptrail.outbox.entries import Model, ModelChange, Outputs
from sweeptrail.outbox.machine.outbox import Outbox
from sweeptrail.outbox.store.asking import PATIENCE, AskedServer
from sweeptrail.outbox.store.reading import Reader
from sweeptrail.outbox.store.searching import Searcher
from sweeptrail.outbox.store.writing import WrittenRuns
from sweeptrail.tracking.tags import RUN_NAME
from sweeptrail.tracking.uri import PREFIX

BUILT_ON_OTHERS = (
    "log_metric_async", "log_param", "log_param_async", "set_tag", "set_tag_async", "record_logged_model",
    "get_metric_history_bulk_interval", "get_metric_history_bulk_interval_from_steps", "search_runs",
    "supports_workspaces", "supports_trace_archival",
)  # fmt: skip
"""Methods of the abstract store that call nothing but what is here."""


class OutboxStore(AbstractStore):
    """Writes to the outbox, and reads from the server what this machine does not know better."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.outbox = Outbox(uri)
        self.reader = Reader(self.outbox, AskedServer(self.outbox.place.uri))
        self.searcher = Searcher(self.reader)
        self.runs = WrittenRuns(self.reader)

    def get_experiment(self, experiment_id: str) -> Experiment:
        return self.reader.experiment(str(experiment_id))

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        return self.reader.experiment_by_name(experiment_name)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: list[ExperimentTag] | None = None
    ) -> str:
        """Return an id of ours at once; the experiment is made on the server later, unless it is there by then."""
        _validate_experiment_name(name)
        if known := self.outbox.experiments.by_name(name):
            if name in self.reader.missed:
                # Another process was first. MLflow's set_experiment, told so, would leave this one without it, and
                # its runs would go into the default experiment.
                self.reader.missed.remove(name)
                return known.id
            raise MlflowException(f"Experiment(name={name}) already exists.", error_code=RESOURCE_ALREADY_EXISTS)
        given = {tag.key: tag.value for tag in tags or []}
        made = self.outbox.experiments.make(
            name, tags=given, artifact_location=artifact_location or "", time=round(time.time() * 1000)
        )
        self.outbox.see_to_courier()
        return made.id

    def set_experiment_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        self.outbox.experiments.add_tags(self.reader.experiment(str(experiment_id)).name, {tag.key: tag.value})
        self.outbox.see_to_courier()

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: list[RunTag], run_name: str | None
    ) -> Run:
        given = {"mlflow.user": user_id, **{tag.key: tag.value for tag in tags or []}}
        name = run_name or given.get(RUN_NAME) or _generate_random_name()
        if given.setdefault(RUN_NAME, name) != name:
            raise MlflowException(
                f"Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
                f"(run_name={run_name!r}, mlflow.runName={given[RUN_NAME]!r}).",
                error_code=INVALID_PARAMETER_VALUE,
            )
        experiment = self.reader.known_experiment(str(experiment_id))
        start_time = start_time or round(time.time() * 1000)
        return self.get_run(self.outbox.begin(experiment, name=name, time=start_time, tags=given))

    def get_run(self, run_id: str) -> Run:
        return self.reader.run(run_id)

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> RunInfo:
        return self.reader.here(self.runs.update(run_id, run_status, end_time, run_name)).info

    def log_metric(self, run_id: str, metric: Metric) -> None:
        self.runs.log_metric(run_id, metric)

    def log_batch(self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        self.runs.log(run_id, metrics, params, tags)

    def log_batch_async(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> RunOperations:
        """Write at once: that takes no longer than to queue it, and survives the process."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def end_async_logging(self) -> None: ...

    def flush_async_logging(self) -> None: ...

    def shut_down_async_logging(self) -> None: ...

    def delete_tag(self, run_id: str, key: str) -> None:
        self.runs.remove_tag(run_id, key)

    def log_inputs(
        self,
        run_id: str,
        datasets: list[DatasetInput] | None = None,
        models: list[LoggedModelInput] | None = None,
    ) -> None:
        self.runs.add_inputs(run_id, datasets or [], models or [])

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        self.runs.write(run_id, Outputs({each.model_id: each.step for each in models}))

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:
        return PagedList(self.reader.history(run_id, metric_key), None)

    def _search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        found = self.searcher.runs(experiment_ids, filter_string, run_view_type, max_results, order_by, page_token)
        return found, found.token

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        _validate_logged_model_name(name)
        experiment = self.reader.known_experiment(str(experiment_id))
        made = Model(
            model=f"m-{uuid.uuid4().hex}",
            name=name or _generate_random_name(),
            time=round(time.time() * 1000),
            experiment=experiment.entry(self.outbox.place.server),
            model_type=model_type or "",
            params={each.key: each.value for each in params or []},
            tags={each.key: each.value for each in tags or []},
            has_run=bool(source_run_id),
        )
        self.outbox.add_model(self.runs.own(source_run_id) if source_run_id else "", made)
        return self.get_logged_model(made.model)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        return self.reader.model(model_id)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        self._change(model_id, ModelChange(model_id, status=str(status)))
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        self._change(model_id, ModelChange(model_id, tags={tag.key: tag.value for tag in tags}))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self._change(model_id, ModelChange(model_id, no_tag=key))

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        self._change(model_id, ModelChange(model_id, params={param.key: param.value for param in params}))

    def _change(self, model_id: str, change: ModelChange) -> None:
        owner = self.outbox.place.owner_of(model_id)
        if not owner:
            raise MlflowException(
                f"the logged model {model_id} was not made on this machine; change it by the server's plain address",
                error_code=INVALID_PARAMETER_VALUE,
            )
        self.outbox.write(owner, change)

    def search_logged_models(self, *arguments: Any, **named: Any) -> PagedList[LoggedModel]:
        return self.searcher.models(*arguments, **named)

    def search_experiments(self, view_type: int = ViewType.ACTIVE_ONLY, *more: Any, **others: Any) -> Any:
        """Return what the server has; while it is away, what this machine knows, for a search without a filter."""
        return self.searcher.experiments(view_type, *more, **others)

    def pass_on(self, name: str, /, *arguments: Any, **named: Any) -> Any:
        """Have the server do what only it can, as soon as it has got what was written before."""

        def question(store: Any) -> Any:
            ids = self.reader.ids
            given, more = ids.to_server(list(arguments)), ids.to_server(named)
            return getattr(store, name)(*given, **more)

        return self.reader.delivered(name, question, PATIENCE)


for _name in {name for base in (AbstractStore, RestStore) for name in dir(base) if not name.startswith("_")}:
    # MLflow's abstract store enforces nothing: a method that is left out would do nothing, silently.
    if _name not in vars(OutboxStore) and _name not in BUILT_ON_OTHERS and callable(getattr(RestStore, _name, None)):
        setattr(OutboxStore, _name, partialmethod(OutboxStore.pass_on, _name))


def make_store(uri: str) -> OutboxStore:
    """Build the store for an address that begins with `sweeptrail+`."""
    complete: Callable[[str], OutboxStore] = OutboxStore  # whose abstract methods were given to it above
    return complete(uri.removeprefix(PREFIX))
