"""What is read: from the server when it answers, with what waits here laid over it; else what this machine knows."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from mlflow.entities import Experiment, LoggedModel, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from sweeptrail.outbox.machine.experiments import KnownExperiment
from sweeptrail.outbox.machine.outbox import Outbox
from sweeptrail.outbox.store.asking import LIMIT, AskedServer, AwayError, NotDeliveredError
from sweeptrail.outbox.store.entities import as_experiment, as_metric, as_model, as_run
from sweeptrail.outbox.store.ids import Ids

LARGEST = sys.float_info.max


class Reader:
    """Answers for one outbox and its server."""

    def __init__(self, outbox: Outbox, server: AskedServer) -> None:
        self.outbox = outbox
        self.server = server
        self.ids = Ids(outbox)
        self.missed: set[str] = set()
        """The names of experiments that this process has asked for in vain."""

    def run(self, run_id: str) -> Run:
        """Return a run. One that is open on this machine is read here: its journal is ahead of the server.

        Raises MlflowException if nobody who answers knows it.
        """
        facts = self.outbox.facts(run_id)
        if facts is None or facts.opened is None:
            return self._of_server(run_id)
        if facts.is_running and not facts.is_adopted:
            return self.here(run_id)
        try:
            server_id = self.ids.run(run_id)
            found = self.server.ask(lambda store: _whole(store.get_run(server_id)))
        except (AwayError, NotDeliveredError):
            return self.here(run_id)
        return as_run(facts, self.ids.experiment(found.info.experiment_id), self.ids.from_server(found))

    def here(self, run_id: str) -> Run:
        """Return what this machine knows of a run that it has written to."""
        facts = self.outbox.facts(run_id)
        assert facts is not None
        assert facts.opened is not None
        return as_run(facts, self.experiment_id_of(facts.opened.experiment))

    def _of_server(self, run_id: str) -> Run:
        try:
            found: Run = self.server.ask(lambda store: _whole(store.get_run(run_id)))
        except AwayError as error:
            raise self.ids.unknown(run_id, str(error)) from error
        return self.ids.from_server(found)

    def experiment_id_of(self, experiment: Mapping[str, str]) -> str:
        """Return the id here of the experiment that a record names."""
        if name := experiment.get("name"):
            known = self.outbox.experiments.by_name(name)
            return known.id if known else ""
        return self.ids.experiment(experiment.get("id", "0"))

    def history(self, run_id: str, metric: str) -> list[Metric]:
        """Return every measurement of a metric, those that wait here among them."""
        facts = self.outbox.facts(run_id)
        here = [as_metric(metric, each, run_id) for each in facts.history(metric)] if facts else []
        if facts and facts.is_running and not facts.is_adopted:
            return here
        try:
            server_id = self.ids.run(run_id)
            found = list(self.server.ask(lambda store: store.get_metric_history(server_id, metric)))
        except (AwayError, NotDeliveredError):
            return here
        known = set(map(_measurement, found))
        return found + [each for each in here if _measurement(each) not in known]

    def wait_for_delivery(self, run_ids: list[str], seconds: float = LIMIT) -> None:
        """Wait until the server has got what is written now, for so many seconds at most."""
        ends = {run_id: self.outbox.place.journal(run_id).stat().st_size for run_id in run_ids}
        limit = time.monotonic() + (0 if self.server.is_away else seconds)
        while any(self.outbox.state(run_id).offset < end for run_id, end in ends.items()):
            if time.monotonic() > limit:
                return
            time.sleep(0.02)

    def delivered(self, call: str, question: Callable[[Any], Any], seconds: float) -> Any:
        """Return the answer to what only the server can do, when it has got what was written before.

        Raises MlflowException, which names the call, when it is away, or has no id yet for what is meant.
        """
        self.server.demand(call, lambda store: store.search_experiments(max_results=1), LIMIT)
        limit = time.monotonic() + seconds
        self.wait_for_delivery(self.outbox.waiting(), seconds)
        while True:
            try:
                return self.ids.from_server(self.server.demand(call, question))
            except NotDeliveredError as error:
                if time.monotonic() > limit or self.server.is_away:
                    raise MlflowException(f"{call}: {error}; nothing was done", RESOURCE_DOES_NOT_EXIST) from error
                time.sleep(0.05)

    def experiment_by_name(self, name: str) -> Experiment | None:
        """Return the experiment of this name, None if neither the server nor this machine has it."""
        try:
            found: Experiment | None = self.server.ask(lambda store: _whole(store.get_experiment_by_name(name)))
            is_away = False
        except AwayError:
            found, is_away = None, True
        if found:
            self.outbox.experiments.learn(name, found.experiment_id)
            return self.ids.from_server(found)
        known = self.outbox.experiments.by_name(name)
        if known and (is_away or known.id != known.server_id):
            return as_experiment(known)
        self.missed.add(name)
        return None

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id. Raises MlflowException if nobody who answers knows it."""
        known = self.outbox.experiments.by_id(experiment_id)
        if known and not known.server_id:
            return self.experiment_by_name(known.name) or as_experiment(known)
        server_id = known.server_id if known else experiment_id
        try:
            found: Experiment = self.server.ask(lambda store: _whole(store.get_experiment(server_id)))
        except AwayError as error:
            if known:
                return as_experiment(known)
            raise MlflowException(
                f"No Experiment with id={experiment_id} is known on this machine, and the tracking server does not "
                f"answer ({error})",
                error_code=RESOURCE_DOES_NOT_EXIST,
            ) from error
        self.outbox.experiments.learn(found.name, found.experiment_id)
        return self.ids.from_server(found)

    def known_experiment(self, experiment_id: str) -> KnownExperiment:
        """Return what this machine knows of an experiment; one that it has not met is asked for.

        Raises MlflowException if nobody who answers knows it.
        """
        if known := self.outbox.experiments.by_id(experiment_id):
            return known
        return self.outbox.experiments.learn(self.experiment(experiment_id).name, experiment_id)

    def model(self, model_id: str) -> LoggedModel:
        """Return a logged model; one that was made here is read here."""
        owner = self.outbox.place.owner_of(model_id)
        facts = self.outbox.facts(owner) if owner else None
        if facts and (model := facts.models.get(model_id)):
            return as_model(facts, model, self.experiment_id_of(model.made.experiment))
        try:
            found: LoggedModel = self.server.ask(lambda store: _whole(store.get_logged_model(model_id)))
        except AwayError as error:
            raise MlflowException(
                f"Logged model {model_id!r} is not known on this machine, and the tracking server does not answer "
                f"({error})",
                error_code=RESOURCE_DOES_NOT_EXIST,
            ) from error
        return self.ids.from_server(found)


def _whole(answer: Any) -> Any:
    """Return an answer that is not empty; MLflow's client takes an empty one for an entity without an id."""
    known_by = {Run: "info.run_id", Experiment: "experiment_id", LoggedModel: "model_id"}
    if answer is not None and not attrgetter(known_by[type(answer)])(answer):
        raise ConnectionError("its answer was empty")
    return answer


def _measurement(metric: Metric) -> tuple[Any, ...]:
    """Return what tells a measurement from others; a server has no infinity, and nan is not equal to itself."""
    value = "nan" if math.isnan(metric.value) else max(-LARGEST, min(metric.value, LARGEST))
    return metric.timestamp, metric.step, value
