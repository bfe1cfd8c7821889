"""A backup of a server in one file: a snapshot of the database with its users, the artifacts, the keys."""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.server import postgres
from sweeptrail.server.artifacts import Store, store
from sweeptrail.server.cluster import Database, database
from sweeptrail.server.place import Kept, Place, Secrets, write_whole

FORMAT = 1
MANIFEST, DUMP, ARTIFACTS, CHECKSUMS = "manifest.json", "database.dump", "artifacts/", "checksums.json"


def backup(place: Place, file: Path) -> int:
    """Write everything that a server holds into one file, whole or not at all; return how many artifacts.

    The server may be running and its clients writing: the database is as it was at one moment, and each artifact that
    it speaks of is there, whole. Raises ServerError if the file is there already or cannot be written.
    """
    with database(place) as found:
        return write(place, file, found)


def write(place: Place, file: Path, found: Database) -> int:
    """Write the backup from a database that is running."""
    if file.exists():
        raise UsageError(f"{file}: is there already; write another file")
    secrets, kept = place.secrets(), place.kept()
    about = {"format": FORMAT, "made": time.time(), "mlflow": version("mlflow"), **asdict(kept)}
    try:
        with _whole(file) as archive:
            _add(archive, MANIFEST, json.dumps(about).encode())
            _add(archive, "secrets.json", json.dumps(asdict(secrets)).encode())
            checksums = {}
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as scratch:
                dump = Path(scratch, "database.dump")
                postgres.dump(place, found.url, dump, found.environment)
                checksums[DUMP] = _add_file(archive, DUMP, dump)
                # After the database, which thereby speaks of no artifact that is not there yet.
                for name, path in store(place, kept).files(Path(scratch)):
                    checksums[ARTIFACTS + name] = _add_file(archive, ARTIFACTS + name, path)
            _add(archive, CHECKSUMS, json.dumps(checksums).encode())
    except OSError as error:
        raise ServerError(f"{file}: the backup could not be written: {error.strerror or error}") from error
    return len(checksums) - 1


def restore(place: Place, file: Path, asked: Kept) -> int:
    """Read a backup into an empty place; return how many artifacts there are. It is read whole or not at all.

    Raises UsageError if the place or the database is not empty, ServerError if the backup is damaged.
    """
    if place.folder.exists() and any(place.folder.iterdir()):
        raise UsageError(
            f"{place.folder}: expected an empty folder or none, got one with files; write another --folder"
        )
    unfinished = Place(place.folder.with_name(f".{place.folder.name}.unfinished"))
    shutil.rmtree(unfinished.folder, ignore_errors=True)
    unfinished.make()
    try:
        count = _read(unfinished, file, asked)
        if place.folder.exists():
            place.folder.rmdir()
        os.replace(unfinished.folder, place.folder)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise ServerError(f"{file}: expected a whole backup of sweeptrail server, got: {error}") from error
    finally:
        shutil.rmtree(unfinished.folder, ignore_errors=True)
    return count


def _read(place: Place, file: Path, asked: Kept) -> int:
    with tarfile.open(file) as archive, tempfile.TemporaryDirectory(dir=place.folder) as scratch:
        members = iter(archive)
        about = json.loads(_content(archive, next(members), MANIFEST))
        if about["format"] != FORMAT:
            raise ValueError(f"the format {about['format']}, which another version has written")
        place.keep(asked)
        place.keep_secrets(Secrets(**json.loads(_content(archive, next(members), "secrets.json"))))
        write_whole(place.served, {"mlflow": about["mlflow"]})
        target = store(place, asked)
        if not target.is_empty():
            raise UsageError(f"{target.uri}: expected a place without artifacts; write another --artifacts")
        found = _unpack(archive, members, target, Path(scratch))
        with database(place) as destination:
            if not postgres.is_empty(place, destination.url, destination.environment):
                raise UsageError(f"{destination.url}: expected an empty database; write another --database-url")
            postgres.restore(place, destination.url, Path(scratch, DUMP), destination.environment)
        return found


def _unpack(archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo], target: Store, scratch: Path) -> int:
    """Put each file where it belongs, and compare all checksums with those of the backup."""
    seen: dict[str, str] = {}
    for member in members:
        if member.name == CHECKSUMS:
            if json.loads(_content(archive, member, CHECKSUMS)) != seen:
                raise ValueError("checksums that differ: the backup is damaged")
            return len(seen) - 1
        stream = archive.extractfile(member)
        if not stream or not (member.name == DUMP or member.name.startswith(ARTIFACTS)):
            raise ValueError(f"{member.name!r}, which does not belong there")
        path = scratch / DUMP if member.name == DUMP else scratch / "artifact"
        digest = hashlib.sha256()
        with stream, path.open("wb") as copy:
            while block := stream.read(1 << 20):
                digest.update(block)
                copy.write(block)
        seen[member.name] = digest.hexdigest()
        if path.name == "artifact":
            target.put(path, member.name.removeprefix(ARTIFACTS))
    raise ValueError("no end: the backup is cut off")


@contextmanager
def _whole(file: Path) -> Iterator[tarfile.TarFile]:
    """Write an archive beside its place, readable by its owner only, and rename it when all is on disk."""
    temporary = file.with_name(f".{file.name}.tmp")
    with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                yield archive
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    archive.addfile(member, BytesIO(content))


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file that nobody is writing; return its SHA-256."""
    member = tarfile.TarInfo(name)
    with path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        member.size, member.mode, member.mtime = about.st_size, 0o600, int(about.st_mtime)
        archive.addfile(member, stream)
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Any:
    stream = archive.extractfile(member)
    if member.name != name or stream is None:
        raise ValueError(f"{member.name!r} where {name!r} was expected")
    with stream:
        return stream.read()
