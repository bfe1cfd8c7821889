"""Where the outboxes of this machine are, and what lies in one.

OUTBOXES/HOST-HASH/    one for each tracking server
  outbox.json          its address, without a password
  outbox.jsonl         the experiments that were made here
  RUN/outbox.jsonl     the journal of a run, by the id that it has here
  RUN/delivered.json   how much of it the server has, and the run's id there
  RUN/artifacts/       files on their way
  RUN/models/MODEL/    those of a logged model
  models/MODEL         the id of the run whose journal tells of a logged model
  server_ids/RUN       the id here of a run, by the server's
      writers/PROCESS      a process that writes, and which runs
  courier.lock         held by the process that delivers
  courier.log          what that had to say
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sweeptrail.errors import JournalError, SweeptrailError
from sweeptrail.outbox.delivery.runs import MODELS, owner_of
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.system.files import write_whole
from sweeptrail.tracking.uri import usable_uri, without_credentials

DESCRIPTION = "outbox.json"
WRITERS = "writers"
SERVER_IDS = "server_ids"
LOCK = "courier.lock"
LOG = "courier.log"


@dataclass(frozen=True)
class Place:
    """The outbox of this machine for one tracking server."""

    folder: Path
    uri: str
    """The server's plain address, with the credentials that it was given with."""

    @property
    def server(self) -> str:
        """The server's address without credentials."""
        return without_credentials(self.uri)

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run, which need not be there."""
        return self.folder / run_id

    def journal(self, run_id: str) -> Path:
        """Return the journal of a run."""
        return self.folder / run_id / FILE_NAME

    def has(self, run_id: str) -> bool:
        """Tell whether this machine has written to a run."""
        return bool(run_id) and "/" not in run_id and self.journal(run_id).exists()

    def owner_of(self, model_id: str) -> str:
        """Return the id of the run whose journal tells of a logged model; empty if it was not made here."""
        return owner_of(self.folder, model_id)


def outboxes_folder() -> Path:
    """Return the folder that holds the outboxes of this machine."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "sweeptrail" / "outboxes"


def open_place(uri: str) -> Place:
    """Return the outbox for a server's plain address, made if it is new.

    Raises JournalError if it cannot be written, TrackingError if the address cannot be used.
    """
    uri = usable_uri(uri)
    shown = without_credentials(uri)
    named = re.sub(r"[^A-Za-z0-9.]+", "_", urlsplit(shown).netloc or Path(urlsplit(shown).path).name)
    folder = outboxes_folder() / f"{named}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"
    try:
        for each in (WRITERS, MODELS, SERVER_IDS):
            (folder / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / DESCRIPTION).exists():
            write_whole(folder / DESCRIPTION, json.dumps({"version": 1, "uri": shown}) + "\n")
    except OSError as error:
        raise JournalError(
            f"{folder} cannot be written ({error.strerror}); set XDG_DATA_HOME to a folder of yours"
        ) from error
    return Place(folder, uri)


def places() -> Iterator[Place]:
    """Yield the outboxes that this machine has."""
    for description in sorted(outboxes_folder().glob(f"*/{DESCRIPTION}")):
        try:
            yield Place(description.parent, json.loads(description.read_text(encoding="utf-8"))["uri"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SweeptrailError(f"{description}: is damaged ({error}); move {description.parent} away") from error
