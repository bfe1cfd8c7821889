"""Makes the open run the active run of an MLflow that is loaded, and MLflow afterwards what it was before."""

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import mlflow
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.tracking import fluent
from mlflow.tracking._model_registry.utils import _get_store_registry
from mlflow.tracking._tracking_service import utils
from mlflow.utils.autologging_utils import client as autologging

from sweeptrail.outbox.plugin.artifacts import RunArtifacts
from sweeptrail.outbox.plugin.open_run import SCHEME, URI
from sweeptrail.outbox.plugin.refusals import refuse
from sweeptrail.outbox.plugin.session import Session, forget, session
from sweeptrail.outbox.plugin.store import run_registry, run_store

OF_THE_THREAD = (fluent._last_active_run_id, fluent._last_logged_model_id, fluent._ACTIVE_MODEL_CONTEXT)
"""What MLflow remembers for each thread beside its active runs."""


@contextmanager
def active_run() -> Iterator[None]:
    """Let MLflow's active run be the open one in every thread, for the `with` block."""
    _register_stores()
    opened = session()
    with ExitStack() as changes:
        changes.callback(_end, opened)
        changes.enter_context(_tracking_uri())
        changes.enter_context(_changed(fluent, "_active_experiment_id", None))
        for variable in OF_THE_THREAD:
            changes.callback(variable.set, variable.get())
        changes.enter_context(_changed(fluent.start_run, "__defaults__", _with_default(fluent.start_run, nested=True)))
        changes.enter_context(_changed(autologging, "_AUTOLOGGING_QUEUEING_CLIENT_THREAD_POOL", _AtOnce()))
        changes.enter_context(_stacks(opened))
        yield


class _AtOnce:
    """What autologging hands its work to: in threads of its own some would come after the run's end."""

    def submit(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> "Future[Any]":
        done = Future[Any]()
        try:
            done.set_result(work(*arguments, **named))
        except Exception as error:
            done.set_exception(error)
        return done


def _register_stores() -> None:
    """Tell MLflow of our scheme, also where sweeptrail is not installed, so that there are no entry points."""
    utils._tracking_store_registry.register(SCHEME, run_store)
    _get_store_registry().register(SCHEME, run_registry)
    _artifact_repository_registry.register(SCHEME, RunArtifacts)


def _end(opened: Session) -> None:
    """Let go of what was known of the run: another try of it in this process is another run to MLflow."""
    for known in (opened.run.run_id, *(model.model_id for model in opened.models)):
        utils._artifact_repos_cache.pop(known, None)
    forget(opened.run)


@contextmanager
def _tracking_uri() -> Iterator[None]:
    """Have MLflow talk to the open run, whatever the task's code says of servers."""
    before = utils._tracking_uri
    mlflow.set_tracking_uri(URI)
    try:
        with _changed(mlflow, "set_tracking_uri", _keep_tracking_uri):
            yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: MLflow asks the environment


def _keep_tracking_uri(uri: Any) -> None:
    """Stand for set_tracking_uri: another one would make runs beside this one."""
    if uri not in (None, "", URI):
        refuse(f"set_tracking_uri({str(uri)!r})")


@contextmanager
def _stacks(opened: Session) -> Iterator[None]:
    """Have the open run active in every thread, and no other in this one."""
    stacks, own_id = fluent._active_run_stack, opened.run.run_id
    here = stacks.get()
    before = list(here)
    here[:] = [fluent.ActiveRun(opened.as_mlflow())]
    with _changed(stacks, "default_factory", lambda: [fluent.ActiveRun(opened.as_mlflow())]):
        try:
            yield
        finally:
            if monitor := fluent.run_id_to_system_metrics_monitor.pop(own_id, None):
                monitor.finish()  # it measures the machine, and logs once more
            for stack in stacks.get_all_thread_values().values():
                stack[:] = [run for run in stack if run.info.run_id != own_id]
            here[:] = before


@contextmanager
def _changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _with_default(function: Any, **changed: Any) -> tuple[Any, ...]:
    """Return the function's defaults with other values for some of its parameters.

    In the function itself, since whoever did `from mlflow import start_run` has no other.
    """
    parameters = inspect.signature(function).parameters.values()
    return tuple(changed.get(each.name, each.default) for each in parameters if each.default is not each.empty)
