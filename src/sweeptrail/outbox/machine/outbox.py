"""The outbox of this machine for one server, as a process writes to it."""

import atexit
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sweeptrail.errors import JournalError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.runs import MODELS
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import VERSION, Artifact, Closed, Entry, Model, Opened, Params
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.machine.experiments import Experiments, KnownExperiment
from sweeptrail.outbox.machine.facts import RunFacts
from sweeptrail.outbox.machine.launch import see_to_courier
from sweeptrail.outbox.machine.place import COPIES, SERVER_IDS, Place, open_place
from sweeptrail.outbox.machine.shared_journal import SharedJournal
from sweeptrail.outbox.machine.writers import Writer, writers
from sweeptrail.system.files import write_whole
from sweeptrail.system.locks import shared

RUN_ID = re.compile("(?:m-)?[0-9a-f]{32}")

LOOK = 2.0
"""Seconds between two looks, at most, at whether the process that delivers is there."""


class Outbox:
    """Keeps what any thread of this process tells, and sees to it that somebody delivers it."""

    def __init__(self, uri: str) -> None:
        """Open the outbox for a server's plain address. Raises JournalError if it cannot be written."""
        self.place: Place = open_place(uri)
        self.experiments = Experiments(self.place.folder)
        self._facts: dict[str, RunFacts] = {}
        self._writer = Writer(self.place.folder)
        self._journals: dict[str, SharedJournal] = {}
        self._states: dict[str, DeliveryState] = {}
        self._looked = -LOOK
        atexit.register(self._leave)
        os.register_at_fork(after_in_child=self._after_fork)
        if any(not writer.is_alive for writer in writers(self.place.folder)):
            self.see_to_courier()  # of a process that is gone, and whose courier may be, too

    def begin(self, experiment: KnownExperiment, *, name: str, time: int, tags: Mapping[str, str]) -> str:
        """Begin a run, at this time in milliseconds, and return its id."""
        return self._begin(experiment, name=name, time=time, tags=tags)

    def take_up(
        self,
        experiment: KnownExperiment,
        run_id: str,
        *,
        name: str,
        time: int,
        tags: Mapping[str, str],
        params: Mapping[str, str],
    ) -> str:
        """Write from now on to a run of the server's, which has these tags and params already; return its id."""
        return self._begin(experiment, Params(params), run_id=run_id, name=name, time=time, tags=tags)

    def _begin(
        self,
        experiment: KnownExperiment,
        *more: Entry,
        name: str,
        time: int,
        tags: Mapping[str, str],
        run_id: str = "",
    ) -> str:
        own_id = run_id or uuid.uuid4().hex
        opened = Opened(
            identity=own_id,
            name=name,
            time=time,
            tags=tags,
            experiment=experiment.entry(self.place.server),
            adopt={"uri": self.place.server, "run_id": run_id} if run_id else {},
            version=VERSION,
        )
        self._writer.add(own_id)
        self._make(own_id, opened, *more)
        self.see_to_courier()
        return own_id

    def _make(self, name: str, *entries: Entry) -> None:
        """Make a folder with a journal, whole or not at all; one that is there stays."""
        folder = self.place.run_folder(name)
        hidden = folder.with_name(f".{name}-{uuid.uuid4().hex[:8]}")
        try:
            hidden.mkdir(mode=0o700)
            (hidden / FILE_NAME).write_bytes(b"".join(map(journal.encode, entries)))
            os.rename(hidden, folder)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            if not self.place.has(name):
                raise JournalError(f"{folder}: cannot be written: {error.strerror}") from error

    def write(self, run_id: str, *entries: Entry) -> None:
        """Append records to the journal of a run that is known here; they are safe when this returns.

        Raises JournalError if the disk does not take them.
        """
        self._writer.add(run_id)
        written = self._journals.get(run_id)
        if written is None:
            written = self._journals.setdefault(run_id, SharedJournal(self.place.journal(run_id)))
        written.append(*entries)
        if any(isinstance(entry, Closed) for entry in entries):
            written.close()  # a process may write thousands of runs, and has room for fewer open files
        self.see_to_courier()

    def add_model(self, run_id: str, entry: Model) -> None:
        """Tell of a logged model, in the journal of its run, or in one of its own."""
        owner = run_id or entry.model
        write_whole(self.place.folder / MODELS / entry.model, owner)
        if run_id:
            self.write(run_id, entry)
            return
        self._writer.add(owner)
        self._make(owner, entry)
        self.see_to_courier()

    def facts(self, run_id: str) -> RunFacts | None:
        """Return what this machine knows of a run, None if it has never written to it."""
        if not self.place.has(run_id):
            return None
        return self._facts.setdefault(run_id, RunFacts(self.place.journal(run_id))).refresh()

    def state(self, run_id: str) -> DeliveryState:
        """Return how far a run is delivered now, and which id it has on the server."""
        known = self._states.get(run_id)
        if known is None:
            known = self._states[run_id] = DeliveryState(self.place.journal(run_id), self.place.uri)
        known.refresh()
        return known

    def run_ids(self) -> list[str]:
        """Return the runs, and models without one, that were written to on this machine."""
        return [path.name for path in self.place.folder.iterdir() if RUN_ID.fullmatch(path.name)]

    def waiting(self) -> list[str]:
        """Return the runs, and models without one, of which the server has not got everything."""
        found = dict.fromkeys(run for writer in writers(self.place.folder) for run in writer.runs)
        return [run for run in found if self.place.has(run) and self.state(run).has_more()]

    def own_id(self, server_id: str) -> str:
        """Return the id here of a run, by the server's; empty if it was not written to here."""
        try:
            return (self.place.folder / SERVER_IDS / server_id).read_text(encoding="ascii") if server_id else ""
        except OSError:
            return ""

    def keep_file(self, run_id: str, file: Path, folder: str, entry: Artifact) -> None:
        """Copy a file below a folder of the run's own, whole or not at all, and tell of it by this record.

        Raises JournalError if the disk does not take it.
        """
        path = self.place.run_folder(run_id) / folder / file.name
        with shared(self.place.run_folder(run_id) / COPIES):  # who removes the copies waits until this one is told of
            self._copy(file, path, self.place.run_folder(run_id) / f".{uuid.uuid4().hex}.tmp")
            self.write(run_id, replace(entry, path=path.relative_to(self.place.run_folder(run_id)).as_posix()))

    def _copy(self, file: Path, path: Path, hidden: Path) -> None:
        with file.open("rb") as source:  # its own errors are no trouble of the outbox
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with hidden.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                os.replace(hidden, path)
            except OSError as error:
                hidden.unlink(missing_ok=True)
                raise JournalError(f"{path}: cannot be written: {error.strerror}") from error

    def see_to_courier(self) -> None:
        """Have the process that delivers started, if it is not there."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            see_to_courier(self.place)

    def _after_fork(self) -> None:
        """Let go, in a child, of what a thread of the parent may have been reading."""
        self._facts = {}

    def _leave(self) -> None:
        """Leave in good order; MLflow ends its active run only after this."""
        if self._writer.leave():
            self._looked = -LOOK
            self.see_to_courier()
