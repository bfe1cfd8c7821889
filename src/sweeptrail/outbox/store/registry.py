"""MLflow's model registry for an outbox: only the server has one, so it is asked, when it has got the model."""

from collections.abc import Callable
from functools import partialmethod
from typing import Any

from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.tracking._tracking_service.utils import _get_store

from sweeptrail.outbox.delivery.runs import SCHEME
from sweeptrail.outbox.store.asking import PATIENCE


class OutboxRegistry(AbstractStore):
    """Passes every call on to the server, with its ids for ours."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, uri)
        self._uri = uri

    def pass_on(self, name: str, /, *arguments: Any, **named: Any) -> Any:
        """Have the server do what only it can, as soon as it has got what was written before."""
        tracking = _get_store(self._uri)
        reader = tracking.reader

        def question(store: Any) -> Any:
            given = [self._given(each, reader, store) for each in arguments]
            more = {key: self._given(each, reader, store) for key, each in named.items()}
            return getattr(reader.server.client.registry_store, name)(*given, **more)

        answer = reader.delivered(name, question, PATIENCE)
        return reader.ids.location(answer) if isinstance(answer, str) else answer  # where the files of a version are

    def _given(self, value: Any, reader: Any, store: Any) -> Any:
        """Return an argument as the server needs it: its ids, and where the files of a model are there."""
        if isinstance(value, str) and value.startswith(f"{SCHEME}:"):
            owner, _, inside = value.removeprefix(f"{SCHEME}:{reader.outbox.place.folder}/").partition("/")
            kind, _, path = inside.partition("/")
            if kind == "models":
                model, _, path = path.partition("/")
                location = store.get_logged_model(reader.ids.model(model)).artifact_location
            else:
                location = store.get_run(reader.ids.run(owner)).info.artifact_uri
            return f"{location}/{path}" if path else location
        return reader.ids.to_server(value)


for _name in [name for name in dir(AbstractStore) if not name.startswith("_")]:
    if _name not in vars(OutboxRegistry) and callable(getattr(AbstractStore, _name)):
        setattr(OutboxRegistry, _name, partialmethod(OutboxRegistry.pass_on, _name))


def make_registry(uri: str) -> OutboxRegistry:
    """Build the registry for an address that begins with `sweeptrail+`."""
    complete: Callable[[str], OutboxRegistry] = OutboxRegistry
    return complete(uri)
