"""How far one journal has been delivered to one tracking server, kept beside the journal."""

import json
import os
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Artifact, Entry, ModelFile
from sweeptrail.tracking.uri import without_credentials

STATE_NAME = "delivered.json"


def run_ids(folder: Path) -> set[str]:
    """Return the ids that the run of this folder has on the tracking servers that know it."""
    try:
        states = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a power cut may have left it empty
        return set()
    return {state.get("run_id") or "" for state in states.values()} - {""}


class SentFiles:
    """Of each folder of artifacts, of a run or a model, the files that were uploaded and are not confirmed."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}

    def add(self, file: Artifact, offset: int, size: int) -> None:
        """Note that a file was uploaded for the record before this offset."""
        self._files.setdefault((_model(file), file.to), {})[Path(file.path).name] = (size, offset)

    def has(self, file: Artifact, offset: int) -> bool:
        """Tell whether that was for this very record, and not only for an earlier one about the same file."""
        return self._files.get((_model(file), file.to), {}).get(Path(file.path).name, (0, -1))[1] == offset

    def take(self) -> dict[tuple[str, str], dict[str, int]]:
        """Return the size of each file by its model, empty for the run, and its folder, and forget them."""
        files, self._files = self._files, {}
        return {where: {name: size for name, (size, _) in found.items()} for where, found in files.items()}


def _model(file: Artifact) -> str:
    return file.model if isinstance(file, ModelFile) else ""


class DeliveryState:
    """One journal with the position up to which it is delivered, and the MLflow run it belongs to."""

    def __init__(self, path: Path, uri: str) -> None:
        self.path = path
        self._server = without_credentials(uri)
        self._state_path = path.with_name(STATE_NAME)
        self.run_id: str | None = None
        self.experiment_id = ""
        self.offset = 0
        self.may_have_twin = True
        """Whether an attempt to create the run that was given up may have been carried out all the same."""
        self.was_asked_for = False
        """Whether the creation of the run was asked for and not answered."""
        self.sent = SentFiles()
        """What was uploaded in a round that then broke off."""
        self.taken: set[int] = set()
        """The offsets of the records that the server has taken in the round that is not over."""
        self._version = 0
        self.existing_params: frozenset[str] = frozenset()
        """Parameters that somebody else gave the run before us: theirs stand."""
        self.models: dict[str, str] = {}
        """The id on the server of each logged model, by the one that it has here."""
        self.experiments: dict[str, str] = {}
        """The id on the server of each experiment that was told now, by its name."""
        self.refresh()

    def refresh(self) -> bool:
        """Take over what another courier has noted since, and tell whether there was anything."""
        try:
            version = self._state_path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if version == self._version:
            return False
        self._version = version
        self.sent = SentFiles()
        state = self._read_states().get(self._server, {})
        self.run_id = state.get("run_id")
        self.experiment_id = state.get("experiment_id", "")
        self.offset = state.get("offset", 0)
        self.may_have_twin = state.get("may_have_twin", True)
        self.existing_params = frozenset(state.get("existing_params", ()))
        self.models = dict(state.get("models", {}))
        return True

    def has_more(self) -> bool:
        """Tell whether anything was written after the delivered position."""
        return self.path.stat().st_size > self.offset

    def read(self, limit: int = -1) -> list[tuple[Entry, int]]:
        """Return the records that wait, each with the offset after it; with a limit those in so many bytes."""
        return journal.read(self.path, self.offset, limit)

    def save(self) -> None:
        """Remember the position. Losing it costs time, not truth: whatever is sent twice counts once."""
        state = {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "offset": self.offset,
            "may_have_twin": self.may_have_twin,
            "existing_params": sorted(self.existing_params),
            **({"models": self.models} if self.models else {}),
        }
        states = self._read_states() | {self._server: state}
        temporary = self._state_path.with_suffix(".tmp")
        temporary.write_text(json.dumps(states, indent=2), encoding="utf-8")
        os.replace(temporary, self._state_path)
        self._version = self._state_path.stat().st_mtime_ns

    def _read_states(self) -> dict[str, Any]:
        try:
            states: dict[str, Any] = json.loads(self._state_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return states
