"""The outboxes of this machine: whether MLflow code can write to them, and what waits there."""

import shlex
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from sweeptrail.doctor.findings import Finding
from sweeptrail.errors import SweeptrailError
from sweeptrail.tracking.uri import PREFIX

SCHEMES = tuple(f"{PREFIX}{scheme}" for scheme in ("http", "https", "sqlite"))
STORES = "mlflow.tracking_store"


def look_at_outboxes() -> Iterator[Finding]:
    """Say what keeps MLflow code from logging by way of an outbox, and what waits in those that there are."""
    from sweeptrail.outbox.machine import place

    folders = place.outboxes()
    found = [
        *_look_at_schemes(),
        *_look_at_folder(place.outboxes_folder(), has_outboxes=bool(folders)),
        *(finding for folder in folders for finding in _look_at_outbox(folder)),
    ]
    yield from found or [Finding("ok", "outbox", f"none waits in {place.outboxes_folder()}")]


def _look_at_schemes() -> Iterator[Finding]:
    known = {each.name for each in entry_points(group=STORES)}
    if missing := [scheme for scheme in SCHEMES if scheme not in known]:
        install = f"{shlex.quote(sys.executable)} -m pip install sweeptrail; in a clone: scripts/setup"
        yield Finding("warning", "outbox", f"MLflow does not know {', '.join(missing)} here", install)


def _look_at_folder(folder: Path, *, has_outboxes: bool) -> Iterator[Finding]:
    if error := _refusal(next(path for path in (folder, *folder.parents) if path.exists())):
        found = f"{folder} cannot be written: {error}"
        yield Finding(
            "problem" if has_outboxes else "warning", "outbox", found, "set XDG_DATA_HOME to a folder of yours"
        )


def _look_at_outbox(folder: Path) -> Iterator[Finding]:
    from sweeptrail.outbox.machine.condition import condition
    from sweeptrail.outbox.machine.place import read_place

    try:
        found = condition(read_place(folder))
    except (SweeptrailError, OSError) as error:
        yield Finding("problem", "outbox", str(error), f"restore the file, or move {folder} away")
        return
    if refusal := _refusal(folder):
        todo = f"make it yours again: chown -R $USER {shlex.quote(str(folder))}"
        yield Finding("problem", "outbox", f"{folder} cannot be written: {refusal}", todo)
    if found.waiting and not found.is_delivering:
        said = f"{found.waiting} records wait for {found.place.server}, and no courier is at work"
        yield Finding("warning", "outbox", said, f"sweeptrail sync {shlex.quote(str(folder))}")
    elif found.waiting:
        yield Finding("ok", "outbox", f"{found.waiting} records wait for {found.place.server}, its courier is at work")


def _refusal(folder: Path) -> str:
    """Return why no file can be made in a folder; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)
