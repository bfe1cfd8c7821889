"""A file of records that is only ever appended to, and survives being cut at any byte.

One record a line: the CRC-32 of its JSON in eight hexadecimal digits, a space, the JSON. A line
without its newline was torn off by a crash and counts as never written.
"""

import json
import os
import threading
import zlib
from pathlib import Path

from sweeptrail.errors import JournalError
from sweeptrail.outbox.entries import Entry, as_mapping, from_mapping

FILE_NAME = "outbox.jsonl"
"""The journal's name in the folder of a run or of a sweep."""


_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """The writing end of a journal; one process at a time, in it any thread."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or start it; a torn last line is cut off first.

        Raises JournalError if the file cannot be opened for writing.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._end = _cut_torn_line(self._file)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened for writing: {error.strerror}") from error

    def append(self, entry: Entry) -> None:
        """Write one record; it is whole in the file, or absent when JournalError is raised."""
        line = encode(entry)
        with self._lock:
            try:
                if (written := os.write(self._file, line)) < len(line):
                    os.write(self._file, line[written:])  # raises what kept the first write short
                self._end += len(line)
            except OSError as error:
                os.ftruncate(self._file, self._end)
                raise JournalError(f"{self.path}: cannot be written: {error.strerror}") from error

    def write(self, *entries: Entry) -> None:
        """Append records and sync them to disk."""
        for entry in entries:
            self.append(entry)
        self.sync()

    def sync(self) -> None:
        """Wait until everything appended would survive a power cut."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be synced to disk: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def append(path: Path, *entries: Entry) -> None:
    """Write records to a journal that nobody else writes to, and sync them to disk."""
    written = Journal(path)
    try:
        written.write(*entries)
    finally:
        written.close()


def encode(entry: Entry) -> bytes:
    """Return the line that holds this record."""
    text = _to_json(as_mapping(entry)).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(path: Path, offset: int = 0, limit: int = -1) -> list[tuple[Entry, int]]:
    """Return each whole record from this offset on, with the offset after it; [] if there is no file.

    With a limit those that lie in so many bytes, but one at least. A line whose checksum does not fit is passed
    over: what follows it was written later and is whole.
    """
    records: list[tuple[Entry, int]] = []
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while not records and (data := file.read(limit)):
                if len(data) == limit and not data.endswith(b"\n"):
                    data += file.readline()
                for line in data.splitlines(keepends=True):
                    offset += len(line)
                    if (entry := decode(line)) is not None:
                        records.append((entry, offset))
    except FileNotFoundError:
        return []
    return records


def decode(line: bytes) -> Entry | None:
    """Return what a line says; None for one that is torn."""
    checksum, _, text = line[:-1].partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    return from_mapping(json.loads(text))


def _cut_torn_line(file: int) -> int:
    """Truncate the file after its last newline and return the size that is left."""
    size = end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end
