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
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import IO

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.server.backup import foreign
from sweeptrail.server.backup.artifacts import store
from sweeptrail.server.database import postgres
from sweeptrail.server.database.cluster import Database, database
from sweeptrail.server.folder import Configuration, Secrets, ServerFolder, read_json, write_json

FORMAT = 1
MANIFEST, SECRETS, DUMP, ARTIFACTS = "manifest.json", "secrets.json", "database.dump", "artifacts/"
CHECKSUMS = "checksums.json"
"""The last member, without which a backup is none."""


def backup(folder: ServerFolder, file: Path) -> int:
    """Write everything that a server holds into one file, whole or not at all; return how many artifacts.

    The server may be running and its clients writing: the database is as it was at one moment, and each artifact that
    it speaks of is there, whole. Raises ServerError if the file is there already or cannot be written.
    """
    with database(folder) as found:
        return write(folder, file, found)


def write(folder: ServerFolder, file: Path, found: Database) -> int:
    """Write the backup from a database that is running."""
    if file.exists():
        raise UsageError(f"{file}: is there already; write another file")
    secrets, configuration = folder.secrets(), folder.configuration()
    served = read_json(folder.served).get("mlflow", "")  # whose tables these are: not ours when they are upgraded
    about = {"format": FORMAT, "made": time.time(), "mlflow": served, **asdict(configuration)}
    try:
        with _whole(file) as (archive, scratch):
            checksums = {
                MANIFEST: _add(archive, MANIFEST, json.dumps(about).encode()),
                SECRETS: _add(archive, SECRETS, json.dumps(asdict(secrets)).encode()),
            }
            dump = scratch / "database.dump"
            postgres.dump(folder, found.url, dump, found.environment)
            checksums[DUMP] = _add_file(archive, DUMP, dump)
            # After the database, which thereby speaks of no artifact that is not there yet.
            for name, path in store(folder, configuration).files(scratch):
                checksums[ARTIFACTS + name] = _add_file(archive, ARTIFACTS + name, path)
            _add(archive, CHECKSUMS, json.dumps(checksums).encode())
    except OSError as error:
        raise ServerError(f"{file}: the backup could not be written: {error.strerror or error}") from error
    return sum(name.startswith(ARTIFACTS) for name in checksums)


def restore(folder: ServerFolder, file: Path, asked: Configuration) -> int:
    """Read a backup into an empty folder; return how many artifacts there are. It is read whole or not at all.

    Raises UsageError if the folder or the database is not empty, ServerError if the backup is damaged.
    """
    if folder.path.exists() and any(folder.path.iterdir()):
        raise UsageError(f"{folder.path}: expected an empty folder or none, got one with files; write another --folder")
    unfinished = ServerFolder(folder.path.with_name(f".{folder.path.name}.unfinished"))
    shutil.rmtree(unfinished.path, ignore_errors=True)
    unfinished.make()
    try:
        with _checked(file) as (archive, members):
            count = _read(unfinished, archive, members, asked)
        if folder.path.exists():
            folder.path.rmdir()
        os.replace(unfinished.path, folder.path)
    except OSError as error:
        raise ServerError(f"{folder.path}: could not be restored: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished.path, ignore_errors=True)
    return count


@contextmanager
def _checked(file: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    """Open a backup and yield its members by name. Raises ServerError unless it is whole: nothing is done before."""
    try:
        with tarfile.open(file, "r:") as archive:
            members = _members(archive)
            yield archive, members
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise ServerError(f"{file}: expected a whole backup of sweeptrail server, got: {error}") from error


def _members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Compare everything in an archive with its checksums; return the members by name."""
    first = archive.next()
    if first is None or first.name != MANIFEST:
        raise ValueError("another kind of archive")
    if (number := json.loads(_content(archive, first))["format"]) != FORMAT:
        raise ValueError(f"the format {number}, which another version has written")
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        # No links, devices or files with holes, and no two of one name: `backup` writes none.
        if not member.isfile() or member.issparse() or member.name in members or not _belongs(member.name):
            raise ValueError(f"{member.name!r}, which does not belong there")
        members[member.name] = member
    if CHECKSUMS not in members:
        raise ValueError("no end: the backup is cut off")
    found = {name: _digest(archive, member) for name, member in members.items() if name != CHECKSUMS}
    if json.loads(_content(archive, members[CHECKSUMS])) != found:
        raise ValueError("checksums that differ: the backup is damaged")
    return members


def _belongs(name: str) -> bool:
    """Tell whether a backup may have a member of this name, which becomes a path."""
    parts = name.split("/")
    is_artifact = name.startswith(ARTIFACTS) and not {"", ".", ".."} & set(parts)
    return is_artifact or name in (MANIFEST, SECRETS, DUMP, CHECKSUMS)


def _read(
    folder: ServerFolder, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], asked: Configuration
) -> int:
    folder.configured(asked)
    secrets = Secrets(**json.loads(_content(archive, members[SECRETS])))
    # A new one, as the database is: what stands in a file from elsewhere is no part of a statement.
    folder.keep_secrets(replace(secrets, database_password=Secrets.new().database_password))
    write_json(folder.served, {"mlflow": json.loads(_content(archive, members[MANIFEST]))["mlflow"]})
    target = store(folder, asked)
    if not target.is_empty():
        raise UsageError(f"{target.uri}: expected a place without artifacts; write another --artifacts")
    with tempfile.TemporaryDirectory(dir=folder.path) as scratch, database(folder) as found:
        if not postgres.is_empty(folder, found.url, found.environment):
            raise UsageError(f"{found.url}: expected an empty database; write another --database-url")
        dump, artifact = Path(scratch, "database.dump"), Path(scratch, "artifact")
        names = [name for name in members if name.startswith(ARTIFACTS)]
        for name in names:
            _extract(archive, members[name], artifact)
            target.put(artifact, name.removeprefix(ARTIFACTS))
        _extract(archive, members[DUMP], dump)
        # Last, since it is all or nothing: a database that holds something is a restored one.
        postgres.restore(folder, found.url, dump, found.environment)
        foreign.refuse(folder, found)
    return len(names)


@contextmanager
def _whole(file: Path) -> Iterator[tuple[tarfile.TarFile, Path]]:
    """Write an archive beside its place and rename it when all is on disk; yield it and a folder for scratch.

    Both are readable by their owner only.
    """
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as folder:
        scratch, unfinished = Path(folder), Path(folder, "archive")
        with open(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o600), "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                yield archive, scratch
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> str:
    """Add a member; return its SHA-256."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    archive.addfile(member, BytesIO(content))
    return hashlib.sha256(content).hexdigest()


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file that nobody is writing; return its SHA-256."""
    member = tarfile.TarInfo(name)
    with path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        member.size, member.mode, member.mtime = about.st_size, 0o600, int(about.st_mtime)
        archive.addfile(member, stream)
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None:
        raise ValueError(f"{member.name!r}, which is no file")
    return stream


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    digest = hashlib.sha256()
    with _opened(archive, member) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    with _opened(archive, member) as stream, path.open("wb") as copy:
        shutil.copyfileobj(stream, copy)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _opened(archive, member) as stream:
        return stream.read()
