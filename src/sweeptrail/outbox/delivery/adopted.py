"""Runs and experiments that `mlflow run`, or a script, knows by the id that they have in an outbox of this machine."""

from dataclasses import replace

from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Opened
from sweeptrail.outbox.machine.experiments import Experiments
from sweeptrail.outbox.machine.place import is_outbox, place_of
from sweeptrail.tracking.uri import Tracking


def as_on_server(tracking: Tracking) -> Tracking:
    """Return where a sweep belongs, in the words of the server; a run that is not there yet keeps its id of here."""
    place = place_of(tracking.uri)
    if not is_outbox(place.folder):
        return tracking
    if experiment_id := tracking.experiment.get("id"):
        known = Experiments(place.folder).by_id(experiment_id)
        if known and known.id != known.server_id:
            tracking = replace(tracking, experiment={"name": known.name})
    return replace(tracking, adopt=server_run_id(tracking.uri, tracking.adopt) or tracking.adopt)


def server_run_id(uri: str, run_id: str) -> str | None:
    """Return the id on the server of a run, by any of its two; None while it has none."""
    place = place_of(uri)
    if not place.has(run_id):
        return run_id
    first = next((entry for entry, _ in journal.read(place.journal(run_id), 0, 1)), None)
    if isinstance(first, Opened) and first.adopt:  # it was begun on the server
        return run_id
    return DeliveryState(place.journal(run_id), place.uri).run_id
