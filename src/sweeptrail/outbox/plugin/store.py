"""MLflow's tracking store of the open run: it writes the run's journal, and answers from what this process knows.

The methods are MLflow's, with the names that MLflow's client gives to their arguments.
"""

import re
import uuid
from collections.abc import Callable
from typing import Any

from mlflow.entities import (
    DatasetInput,
    Experiment,
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
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.mlflow_tags import MLFLOW_AUTOLOGGING, MLFLOW_RUN_NOTE

from sweeptrail.outbox.plugin.open_run import EXPERIMENT_ID, URI, artifact_uri, artifacts_of
from sweeptrail.outbox.plugin.refusals import refuse, refusing_the_rest
from sweeptrail.outbox.plugin.session import Session, Trial, is_protected, session
from sweeptrail.tracking.tags import PARENT_RUN_ID

BUILT_ON_OTHERS = (
    "log_metric", "log_metric_async", "log_param", "log_param_async", "set_tag", "set_tag_async",
    "get_metric_history_bulk_interval", "get_metric_history_bulk_interval_from_steps",
)  # fmt: skip
"""Methods of the abstract store that call nothing but what is here."""


@refusing_the_rest(AbstractStore, RestStore, but=BUILT_ON_OTHERS)
class RunStore(AbstractStore):
    """All runs that are begun are the open run, and all experiments are the sweep's."""

    def get_experiment(self, experiment_id: str) -> Experiment:
        if str(experiment_id) != EXPERIMENT_ID:
            refuse(f"get_experiment of another experiment ({experiment_id})")
        return self.get_experiment_by_name("sweeptrail")

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        location = artifact_uri(artifacts_of(session().run))
        return Experiment(EXPERIMENT_ID, experiment_name, location, "active")

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: list[RunTag], run_name: str | None
    ) -> Run:
        """Return the open run, with what the caller wants to say of it; a search's trial is one that is not kept."""
        if str(experiment_id) != EXPERIMENT_ID:
            refuse(f"create_run in another experiment ({experiment_id})")
        opened, given = session(), {tag.key: tag.value for tag in tags or []}
        if given.get(PARENT_RUN_ID) == opened.run.run_id and MLFLOW_AUTOLOGGING in given:
            trial = Trial(uuid.uuid4().hex, opened.run.folder)
            opened.trials[trial.run_id] = Session(trial)
            return opened.trials[trial.run_id].as_mlflow()
        kept = [
            RunTag(name, value)
            for name, value in given.items()
            if name in (MLFLOW_RUN_NOTE, MLFLOW_AUTOLOGGING) or not (name.startswith("mlflow.") or is_protected(name))
        ]
        opened.log([], [], kept)
        return opened.as_mlflow()

    def get_run(self, run_id: str) -> Run:
        return session("get_run", run_id).as_mlflow()

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> RunInfo:
        """Change nothing: the run ends when its task returns, and its name is the sweep's."""
        return session("update_run_info", run_id).info()

    def log_batch(self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        session("log_batch", run_id).log(metrics, params, tags)

    def log_batch_async(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> RunOperations:
        """Write at once: that takes no longer than to queue it, and survives the process."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def end_async_logging(self) -> None: ...

    def flush_async_logging(self) -> None: ...

    def shut_down_async_logging(self) -> None: ...

    def log_inputs(
        self,
        run_id: str,
        datasets: list[DatasetInput] | None = None,
        models: list[LoggedModelInput] | None = None,
    ) -> None:
        session("log_inputs", run_id).add_inputs(datasets or [], models or [])

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        session("log_outputs", run_id).add_outputs(models)

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:
        return PagedList(session("get_metric_history", run_id).history(metric_key), None)

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        models = session("create_logged_model", source_run_id or "").models
        return models.create(name or "model", model_type, tags=tags or [], params=params or [])

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        return session().models.get(model_id)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        model = self.get_logged_model(model_id)
        model.status = status
        return model

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        self.get_logged_model(model_id).tags.update({tag.key: tag.value for tag in tags})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self.get_logged_model(model_id).tags.pop(key, None)

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        self.get_logged_model(model_id).params.update({param.key: param.value for param in params})

    def search_logged_models(
        self, experiment_ids: list[str], filter_string: str | None = None, *more: Any, **others: Any
    ) -> PagedList[LoggedModel]:
        """Return the models of this run; by their name none, since their files are among the run's artifacts.

        MLflow asks by name for further files when it lists the artifacts of a run or brings them.
        """
        if filter_string and not re.fullmatch(r"name = '[^']*'", filter_string):
            refuse("search_logged_models with a filter")
        return PagedList([] if filter_string else list(session().models), None)


@refusing_the_rest(AbstractRegistry)
class RunRegistry(AbstractRegistry):
    """The model registry inside of a run: the sweep registers its champion itself."""


def run_store(*_: Any, **__: Any) -> RunStore:
    """Build a store, which holds nothing: MLflow makes one whenever it likes."""
    complete: Callable[[], RunStore] = RunStore  # whose abstract methods were given to it above
    return complete()


def run_registry(*_: Any, **__: Any) -> RunRegistry:
    """Build a registry that refuses everything."""
    complete: Callable[[str, str], RunRegistry] = RunRegistry
    return complete(URI, URI)
