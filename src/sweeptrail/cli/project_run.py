"""The run that `mlflow run` has opened for a command: what is written on it beside the sweep."""

from collections.abc import Mapping
from contextlib import suppress

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.tracking import tags
from sweeptrail.tracking.uri import usable_uri


def refuse(tracking_uri: str, run_id: str, error: UsageError) -> None:
    """Say on the run why there is no sweep; MLflow then closes it as FAILED."""
    reason = "\n".join(error.problems)
    tag(tracking_uri, run_id, {tags.REASON: reason[:500], tags.NOTE: f"Not started:\n\n```\n{reason}\n```"})


def tag(tracking_uri: str, run_id: str, values: Mapping[str, str]) -> None:
    """Tag the run, if the server answers: the person sees the same on the screen."""
    from sweeptrail.outbox.delivery.adopted import server_run_id
    from sweeptrail.tracking.client import TrackingServer

    with suppress(SweeptrailError):
        uri = usable_uri(tracking_uri)
        if there := server_run_id(uri, run_id):
            TrackingServer(uri).log(there, metrics=[], params={}, tags=values)
