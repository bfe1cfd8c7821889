"""How far one journal has been delivered to one tracking server, kept beside the journal."""

import json
import os
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal
from sweeptrail.tracking.uri import without_credentials

STATE_NAME = "delivered.json"


class Mailbox:
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
        self._version = 0
        self.existing_params: frozenset[str] = frozenset()
        """Parameters that somebody else gave the run before us: theirs stand."""
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
        state = self._read_states().get(self._server, {})
        self.run_id = state.get("run_id")
        self.experiment_id = state.get("experiment_id", "")
        self.offset = state.get("offset", 0)
        self.may_have_twin = state.get("may_have_twin", True)
        self.existing_params = frozenset(state.get("existing_params", ()))
        return True

    def has_more(self) -> bool:
        """Tell whether anything was written after the delivered position."""
        return self.path.stat().st_size > self.offset

    def read(self) -> list[tuple[journal.Entry, int]]:
        """Return the records that wait, each with the offset after it."""
        return journal.read(self.path, self.offset)

    def save(self) -> None:
        """Remember the position. Losing it costs time, not truth: whatever is sent twice counts once."""
        state = {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "offset": self.offset,
            "may_have_twin": self.may_have_twin,
            "existing_params": sorted(self.existing_params),
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
