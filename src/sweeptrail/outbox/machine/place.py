"""Where the outboxes of this machine are, and what lies in one.

OUTBOXES/HOST-HASH/    one for each tracking server
  outbox.json          its address, without a password
  outbox.jsonl         the experiments that were made here
  RUN/outbox.jsonl     the journal of a run, by the id that it has here
  RUN/delivered.json   how much of it the server has, and the run's id there
  RUN/artifacts/       files on their way
  RUN/copies.lock      shared by those who add one, held by who removes them
  RUN/models/MODEL/    those of a logged model
  models/MODEL         the id of the run whose journal tells of a logged model
  server_ids/RUN       the id here of a run, by the server's
  writers/PROCESS      a process that writes, and which runs
  courier.lock         held by the process that delivers
  courier.log          what that had to say
  courier.wake         made by whoever wants it to try again at once
"""

import hashlib
import json
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sweeptrail.errors import JournalError, SweeptrailError, TrackingError
from sweeptrail.outbox.delivery.runs import MODELS, owner_of
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.tracking.uri import usable_uri, without_credentials

DESCRIPTION = "outbox.json"
WRITERS = "writers"
SERVER_IDS = "server_ids"
COPIES = "copies.lock"
LOCK = "courier.lock"
LOG = "courier.log"
WAKE = "courier.wake"


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
    return Path(data_home).absolute() / "sweeptrail" / "outboxes"


def place_of(uri: str) -> Place:
    """Return where the outbox for a server's plain address is, which need not be there.

    Raises TrackingError if the address cannot be used.
    """
    uri = usable_uri(uri)
    if uri.startswith("http") and not urlsplit(uri).hostname:
        raise TrackingError(
            f"expected a server after sweeptrail+http://, got {uri!r}; write sweeptrail+http://HOST:5000"
        )
    shown = without_credentials(uri)
    named = re.sub(r"[^A-Za-z0-9.]+", "_", urlsplit(shown).netloc or Path(urlsplit(shown).path).name)
    return Place(outboxes_folder() / f"{named}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}", uri)


def open_place(uri: str) -> Place:
    """Return the outbox for a server's plain address, made if it is new.

    Raises JournalError if it cannot be written, TrackingError if the address cannot be used.
    """
    place = place_of(uri)
    try:
        for each in (WRITERS, MODELS, SERVER_IDS):
            (place.folder / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (place.folder / DESCRIPTION).exists():
            hidden = place.folder / f".{uuid.uuid4().hex}.tmp"  # several processes may make it at the same time
            hidden.write_text(json.dumps({"version": 1, "uri": place.server}) + "\n", encoding="utf-8")
            os.replace(hidden, place.folder / DESCRIPTION)
    except OSError as error:
        raise JournalError(
            f"{place.folder} cannot be written ({error.strerror}); set XDG_DATA_HOME to a folder of yours"
        ) from error
    return place


def is_outbox(folder: Path) -> bool:
    """Tell whether this is the folder of an outbox."""
    return (folder / DESCRIPTION).is_file()


def outboxes(folder: Path | None = None) -> list[Path]:
    """Return the folders of the outboxes in a folder, or itself, if it is one; without a folder, of this machine."""
    folder = folder or outboxes_folder()
    return [folder] if is_outbox(folder) else sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION}"))


def read_place(folder: Path) -> Place:
    """Return the outbox in a folder, its address without a password. Raises SweeptrailError if it is damaged."""
    path = folder / DESCRIPTION
    try:
        return Place(folder, usable_uri(json.loads(path.read_text(encoding="utf-8"))["uri"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweeptrailError(f"{path} cannot be read ({error})") from error
