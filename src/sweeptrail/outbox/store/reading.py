"""What is read: from the server when it answers, with what waits here laid over it; else what this machine knows."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities import Experiment, LoggedModel, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from sweeptrail.outbox.machine.outbox import Outbox
from sweeptrail.outbox.store.asking import LIMIT, AskedServer, AwayError, NotDeliveredError
from sweeptrail.outbox.store.entities import as_experiment, as_metric, as_model, as_run
from sweeptrail.outbox.store.ids import Ids


class Reader:
    """Answers for one outbox and its server."""

    def __init__(self, outbox: Outbox, server: AskedServer) -> None:
        self.outbox = outbox
        self.server = server
        self.ids = Ids(outbox)

    def run(self, run_id: str) -> Run:
        """Return a run. One that is open on this machine is read here: its journal is ahead of the server.

        Raises MlflowException if nobody who answers knows it.
        """
        facts = self.outbox.facts(run_id)
        if facts is None or facts.opened is None:
            return self._of_server(run_id)
        experiment_id = self.experiment_id_of(facts.opened.experiment)
        if facts.is_running and not facts.is_adopted:
            return as_run(facts, experiment_id)
        try:
            server_id = self.ids.run(run_id)
            found = self.server.ask(lambda store: store.get_run(server_id))
        except (AwayError, NotDeliveredError):
            return as_run(facts, experiment_id)
        return as_run(facts, self.ids.experiment(found.info.experiment_id), self.ids.from_server(found))

    def _of_server(self, run_id: str) -> Run:
        try:
            found: Run = self.server.ask(lambda store: store.get_run(run_id))
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
        if facts and not facts.is_adopted:
            return here
        try:
            server_id = self.ids.run(run_id)
            found = list(self.server.ask(lambda store: store.get_metric_history(server_id, metric)))
        except (AwayError, NotDeliveredError):
            return here
        known = {(each.timestamp, each.step, each.value) for each in found}
        return found + [each for each in here if (each.timestamp, each.step, each.value) not in known]

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
        known = self.outbox.experiments.by_name(name)
        try:
            found = self.server.ask(lambda store: store.get_experiment_by_name(name))
        except AwayError:
            return as_experiment(known) if known else None
        if found is None:
            return as_experiment(known) if known and known.id != known.server_id else None
        self.outbox.experiments.learn(name, found.experiment_id)
        return self._located(found)

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id. Raises MlflowException if nobody who answers knows it."""
        known = self.outbox.experiments.by_id(experiment_id)
        if known and not known.server_id:
            return self.experiment_by_name(known.name) or as_experiment(known)
        server_id = known.server_id if known else experiment_id
        try:
            found = self.server.ask(lambda store: store.get_experiment(server_id))
        except AwayError as error:
            if known:
                return as_experiment(known)
            raise MlflowException(
                f"No Experiment with id={experiment_id} is known on this machine, and the tracking server does not "
                f"answer ({error})",
                error_code=RESOURCE_DOES_NOT_EXIST,
            ) from error
        self.outbox.experiments.learn(found.name, found.experiment_id)
        return self._located(found)

    def _located(self, found: Experiment) -> Experiment:
        self.ids.from_server(found)
        return found

    def model(self, model_id: str) -> LoggedModel:
        """Return a logged model; one that was made here is read here."""
        owner = self.outbox.place.owner_of(model_id)
        facts = self.outbox.facts(owner) if owner else None
        if facts and (model := facts.models.get(model_id)):
            return as_model(facts, model, self.experiment_id_of(model.made.experiment))
        try:
            found: LoggedModel = self.server.ask(lambda store: store.get_logged_model(model_id))
        except AwayError as error:
            raise MlflowException(
                f"Logged model {model_id!r} is not known on this machine, and the tracking server does not answer "
                f"({error})",
                error_code=RESOURCE_DOES_NOT_EXIST,
            ) from error
        return self.ids.from_server(found)
