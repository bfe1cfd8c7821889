"""Makes a run exist on the tracking server, once, whatever answers are lost."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeptrail.errors import RefusedError, WaitsError
from sweeptrail.outbox.delivery.adopted import server_run_id
from sweeptrail.outbox.delivery.runs import KnownRuns
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Opened
from sweeptrail.tracking import tags
from sweeptrail.tracking.facts import Expected
from sweeptrail.tracking.uri import without_credentials

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer


def open_run(server: "TrackingServer", runs: KnownRuns, state: DeliveryState, opened: Opened) -> None:
    """Make the run exist and be RUNNING: one that is known, one to adopt, one found again, or a new one."""
    runs.note(opened.identity, state)
    if state.run_id:
        server.reopen(state.run_id)
    elif opened.adopt.get("uri") == without_credentials(server.uri):
        _adopt(server, runs, state, opened)
    else:
        _find_or_create(server, runs, state, opened)


def run_id_of(state: DeliveryState) -> str:
    """Return the id of the run that a journal belongs to; raises RefusedError while it has none."""
    if state.run_id is None:
        raise RefusedError("its run was refused before")
    return state.run_id


def _adopt(server: "TrackingServer", runs: KnownRuns, state: DeliveryState, opened: Opened) -> None:
    run_id = server_run_id(server.uri, opened.adopt["run_id"])
    if run_id is None:
        raise WaitsError(f"the run {opened.adopt['run_id']} waits in an outbox: sweeptrail sync delivers it")
    run = server.get(run_id)
    if state.path.parent == runs.folder:
        runs.is_new_sweep = tags.IDENTITY not in run.data.tags
    state.existing_params = frozenset(run.data.params)
    given = {name: value for name, value in opened.tags.items() if name not in run.data.tags}
    given[tags.IDENTITY] = opened.identity
    server.log(run.info.run_id, metrics=[], params={}, tags=given)
    server.confirm(run.info.run_id, Expected(tags=given))
    state.experiment_id, state.run_id = run.info.experiment_id, run.info.run_id


def _find_or_create(server: "TrackingServer", runs: KnownRuns, state: DeliveryState, opened: Opened) -> None:
    """Creating is the one request that must not be repeated: a lost answer may hide a created run."""
    given = {**runs.with_server_ids(opened.tags), tags.IDENTITY: opened.identity}
    if opened.parent:
        parent = runs.parent(opened.parent)
        experiment_id = parent.experiment_id
        given[tags.PARENT_RUN_ID] = run_id_of(parent)
    else:
        experiment_id = server.experiment_id(_experiment(server.uri, opened))
    is_new = bool(opened.parent) and runs.is_new_sweep and not state.was_asked_for
    found = None if is_new else server.find(experiment_id, opened.identity)
    if not opened.parent:
        runs.is_new_sweep = found is None
    state.was_asked_for = True
    state.may_have_twin = not is_new
    state.run_id = found or server.create(experiment_id, name=opened.name, time=opened.time, tags=given)
    state.was_asked_for = False
    state.experiment_id = experiment_id


def _experiment(uri: str, opened: Opened) -> Mapping[str, str]:
    """Return the experiment that is meant; on another server than the sweep's own its id means nothing."""
    own = without_credentials(uri)
    return opened.experiment if opened.experiment.get("uri", own) == own else {}
