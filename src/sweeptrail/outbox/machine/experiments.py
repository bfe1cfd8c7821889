"""The experiments that this machine knows by name, and which id each has here and on the server.

An id is for good: an experiment that was first seen on the server has its id there, one that was made here has one of
ours, also when it is on the server later. A number would look like one of the server's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Experiment
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.machine.shared_journal import SharedJournal

DEFAULT_ID, DEFAULT_NAME = "0", "Default"


@dataclass(frozen=True)
class KnownExperiment:
    """An experiment, as this machine knows it."""

    id: str
    """By which it goes here."""
    name: str
    server_id: str = ""
    """Empty while the server has not told it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    time: int = 0

    def entry(self, uri: str) -> dict[str, str]:
        """Return what the journal of a run must say of it."""
        return {"id": self.server_id, "uri": uri} if self.server_id else {"name": self.name}


class Experiments:
    """Those of one outbox."""

    def __init__(self, folder: Path) -> None:
        self._journal = SharedJournal(folder / FILE_NAME)
        self._offset = 0
        self._by_name = {DEFAULT_NAME: KnownExperiment(DEFAULT_ID, DEFAULT_NAME, DEFAULT_ID)}

    def all(self) -> list[KnownExperiment]:
        """Return those that are known now."""
        self._refresh()
        return list(self._by_name.values())

    def by_name(self, name: str) -> KnownExperiment | None:
        """Return the experiment of this name, if it is known."""
        self._refresh()
        return self._by_name.get(name)

    def by_id(self, experiment_id: str) -> KnownExperiment | None:
        """Return the experiment with this id, here or on the server, if it is known."""
        return next((each for each in self.all() if experiment_id in (each.id, each.server_id)), None)

    def make(self, name: str, *, tags: Mapping[str, str], artifact_location: str, time: int) -> KnownExperiment:
        """Note an experiment that is to be made on the server."""
        self._journal.append(Experiment(name, tags, artifact_location, time=time))
        self._refresh()
        return self._by_name[name]

    def learn(self, name: str, server_id: str) -> KnownExperiment:
        """Note which id an experiment has on the server, and return it with the id that it has here."""
        known = self.by_name(name)
        if known is None or known.server_id != server_id:
            self._journal.append(Experiment(name, id=server_id))
            self._refresh()
        return self._by_name[name]

    def add_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Note further tags of an experiment."""
        self._journal.append(Experiment(name, tags))

    def _refresh(self) -> None:
        for entry, offset in journal.read(self._journal.path, self._offset):
            self._offset = offset
            if isinstance(entry, Experiment):
                before = self._by_name.get(entry.name)
                server_id = entry.id or (before.server_id if before else "")
                own_id = before.id if before else entry.id or own_experiment_id(entry.name)
                tags = {**(before.tags if before else {}), **entry.tags}
                time = before.time if before else entry.time
                self._by_name[entry.name] = KnownExperiment(own_id, entry.name, server_id, tags, time)


def own_experiment_id(name: str) -> str:
    """Return the id of an experiment that is made here."""
    return f"sweeptrail-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
