"""Searches: by the server, and here where it is away or has not got everything yet."""

from collections.abc import Callable, Iterable
from typing import Any

from mlflow.entities import Experiment, LoggedModel, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.search_utils import SearchLoggedModelsUtils, SearchUtils

from sweeptrail.outbox.store.asking import AwayError, NotDeliveredError
from sweeptrail.outbox.store.entities import as_experiment, as_model
from sweeptrail.outbox.store.reading import Reader


class Searcher:
    """Searches one outbox and its server."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._outbox = reader.outbox
        self._ids = reader.ids

    def runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        view: int,
        max_results: int,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> PagedList[Run]:
        """Return the runs that a filter lets through."""
        found, pending = self._ask(
            experiment_ids,
            page_token,
            lambda store, ids, terms: store.search_runs(ids, terms, view, max_results, order_by, page_token),
            filter_string,
        )
        answer: PagedList[Run] = found
        if not pending or view == ViewType.DELETED_ONLY:
            return answer
        here = {run_id: self._reader.run(run_id) for run_id in pending}
        merged: list[Run] = SearchUtils.filter([*here.values()], filter_string)
        merged += [each for each in answer if each.info.run_id not in here]
        return PagedList(SearchUtils.sort(merged, order_by)[:max_results], answer.token)

    def models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: Any = None,
        max_results: int | None = None,
        order_by: Any = None,
        page_token: str | None = None,
    ) -> PagedList[LoggedModel]:
        """Return the logged models that a filter lets through."""
        found, pending = self._ask(
            experiment_ids,
            page_token,
            lambda store, ids, terms: store.search_logged_models(
                ids, terms, datasets, max_results, order_by, page_token
            ),
            filter_string,
        )
        answer: PagedList[LoggedModel] = found
        if not pending:
            return answer
        here = [model for run_id in pending for model in self._models(run_id)]
        merged = SearchLoggedModelsUtils.filter_logged_models(here, filter_string, datasets)
        known = {each.model_id for each in here}
        merged += [each for each in answer if each.model_id not in known]
        return PagedList(SearchLoggedModelsUtils.sort(merged, order_by)[:max_results], answer.token)

    def _models(self, run_id: str) -> list[LoggedModel]:
        if (facts := self._outbox.facts(run_id)) is None:
            return []
        return [
            as_model(facts, model, self._reader.experiment_id_of(model.made.experiment))
            for model in list(facts.models.values())
        ]

    def _ask(
        self,
        experiment_ids: list[str],
        page_token: str | None,
        search: Callable[[Any, Any, Any], Any],
        filter_string: str | None,
    ) -> tuple[Any, list[str]]:
        """Return what the server has found, and the runs that are to be looked at here besides.

        Those are the ones that it has not got whole; while it is away, all that this machine knows.
        """
        pending = self._of(experiment_ids, self._outbox.waiting())
        try:
            wanted, terms = self._ids.to_server(experiment_ids), self._ids.to_server(filter_string)
            found = self._reader.server.ask(lambda store: search(store, wanted, terms))
        except (AwayError, NotDeliveredError):
            return PagedList([], None), self._of(experiment_ids, self._outbox.run_ids())
        return self._ids.from_server(found), [] if page_token else pending

    def _of(self, experiment_ids: list[str], run_ids: Iterable[str]) -> list[str]:
        """Return which of these runs are of these experiments."""
        wanted = {self._ids.experiment(str(each)) for each in experiment_ids}
        found = []
        for run_id in run_ids:
            facts = self._outbox.facts(run_id)
            if facts and facts.opened and self._reader.experiment_id_of(facts.opened.experiment) in wanted:
                found.append(run_id)
        return found

    def experiments(self, view: int, *more: Any, **others: Any) -> PagedList[Experiment]:
        """Return the server's experiments; those that this machine knows while it is away and nothing is filtered."""

        def question(store: Any) -> Any:
            return store.search_experiments(view, *self._ids.to_server(more), **self._ids.to_server(others))

        try:
            found: PagedList[Experiment] = self._reader.server.ask(question)
        except (AwayError, NotDeliveredError) as error:
            if others.get("filter_string") or others.get("page_token") or more[1:2] not in ((), (None,)):
                raise MlflowException(
                    f"search_experiments: only the tracking server can filter, and it does not answer ({error})",
                    TEMPORARILY_UNAVAILABLE,
                ) from error
            return PagedList(list(map(as_experiment, self._outbox.experiments.all())), None)
        return self._ids.from_server(found)
