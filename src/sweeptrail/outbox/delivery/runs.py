"""Which run each journal of a sweep belongs to on the tracking server."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sweeptrail.errors import RefusedError, WaitsError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Opened
from sweeptrail.tracking.tags import PARENT_RUN_ID
from sweeptrail.tracking.ui_links import Where

SCHEME = "sweeptrail-outbox"
"""Of the addresses of artifacts that are on their way."""

MODELS = "models"
"""The folder that holds, for each logged model, the name of the folder whose journal tells of it."""


def owner_of(folder: Path, model_id: str) -> str:
    """Return the folder, in this one, whose journal tells of a logged model; empty if it was not made here."""
    try:
        return (folder / MODELS / model_id).read_text(encoding="ascii") if "/" not in model_id else ""
    except OSError:
        return ""


class KnownRuns:
    """The journals in one sweep's folder, as far as they are delivered to one server."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self.is_new_sweep = False
        """Whether this courier has created the sweep's own run, so that no run of it can be there already."""
        self._states: dict[Path, DeliveryState] = {}
        self._by_identity: dict[str, DeliveryState] = {}

    def of(self, path: Path) -> DeliveryState:
        """Return how far a journal is delivered."""
        if path not in self._states:
            self._states[path] = DeliveryState(path, self.uri)
        return self._states[path]

    def waiting(self) -> Iterator[DeliveryState]:
        """Yield the journals that hold what is not delivered, the sweep's own first."""
        for folder in [self.folder, *sorted(path for path in self.folder.iterdir() if path.is_dir())]:
            path = folder / journal.FILE_NAME
            if not path.exists():
                continue
            is_known = path in self._states
            state = self.of(path)
            if is_known and state.refresh():
                self.is_new_sweep = False  # another courier was here, and may have created runs
            if state.has_more():
                yield state

    def own_file(self, state: DeliveryState, name: str) -> Path:
        """Return the file that a record means. Raises RefusedError if it is outside the sweep's folder.

        The folder may come from somebody else, whose journal, or a link, names a private file of ours.
        """
        path = state.path.parent / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise RefusedError(f"{name!r} lies outside the sweep's folder, and is not sent")
        return path

    def model_id(self, own_id: str) -> str:
        """Return the id that a logged model has on the server. Raises RefusedError if it never got there."""
        owner = owner_of(self.folder, own_id)
        if not owner:
            return own_id  # the server's own
        state = self.of(self.folder / owner / journal.FILE_NAME)
        if own_id not in state.models:
            raise RefusedError(f"the model {own_id} was refused before")
        return state.models[own_id]

    def with_server_ids(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tags of a run, its parent's id as the server has it. Raises WaitsError while it has none."""
        parent = tags.get(PARENT_RUN_ID, "")
        path = self.folder / parent / journal.FILE_NAME
        if not parent or "/" in parent or not path.exists():
            return dict(tags)
        state = self.of(path)
        if state.run_id is None:
            raise WaitsError(f"the parent {parent} is not on the tracking server yet")
        return {**tags, PARENT_RUN_ID: state.run_id}

    def note(self, identity: str, state: DeliveryState) -> None:
        """Remember whose journal this is."""
        self._by_identity[identity] = state

    def parent(self, identity: str) -> DeliveryState:
        """Return how far the journal of the sweep itself is delivered."""
        return self._by_identity.setdefault(identity, self.of(self.folder / journal.FILE_NAME))

    def where(self, identity: str) -> Where | None:
        """Return where a run is on the server, if it is there."""
        if identity not in self._by_identity:  # on a restart its opening was delivered long ago
            for path, state in list(self._states.items()):
                for entry, _ in journal.read(path)[:1]:
                    if isinstance(entry, Opened):
                        self._by_identity.setdefault(entry.identity, state)
        found = self._by_identity.get(identity)
        return Where(found.experiment_id, found.run_id) if found and found.run_id else None
