"""What MLflow finds by the scheme of an address. MLflow is being imported when it loads this module."""

from typing import Any


def tracking_store(store_uri: str, artifact_uri: Any = None, **_: Any) -> Any:
    """Build the tracking store for an address."""
    from sweeptrail.outbox.store.store import make_store

    return make_store(store_uri)


def registry_store(store_uri: str, **_: Any) -> Any:
    """Build the model registry for an address."""
    from sweeptrail.outbox.store.registry import make_registry

    return make_registry(store_uri)


def artifact_repository(artifact_uri: str, *more: Any, **others: Any) -> Any:
    """Build the place of a run's artifacts, or of a model's."""
    from sweeptrail.outbox.store.artifacts import OutboxArtifacts

    return OutboxArtifacts(artifact_uri, *more, **others)
