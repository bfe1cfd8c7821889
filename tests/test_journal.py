"""The journal on disk."""

import json
import resource
import zlib
from pathlib import Path

import pytest

from sweeptrail.errors import JournalError
from sweeptrail.outbox.entries import VERSION, Closed, Entry, EpochMetrics, FinalMetrics, Note, Opened, Params, Unknown
from sweeptrail.outbox.journal import Journal, append, encode, read

ENTRIES: list[Entry] = [Params({"number": str(number), "text": "ä\n\u2028"}) for number in range(5)]
NEW = Note("new")


def write(path: Path, entries: list[Entry]) -> None:
    journal = Journal(path)
    for entry in entries:
        journal.append(entry)
    journal.sync()
    journal.close()


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "journal"
    write(path, ENTRIES[:3])
    write(path, ENTRIES[3:])
    assert [entry for entry, _ in read(path)] == ENTRIES


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, ENTRIES)
    offset = read(path)[1][1]
    assert [entry for entry, _ in read(path, offset)] == ENTRIES[2:]
    assert read(path, path.stat().st_size) == []


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "journal") == []


def test_a_journal_cut_at_any_byte_keeps_every_whole_record_and_takes_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, ENTRIES)
    whole = path.read_bytes()
    ends = [offset for _, offset in read(path)]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        survivors = ENTRIES[: sum(end <= cut for end in ends)]
        assert [entry for entry, _ in read(path)] == survivors
        write(path, [NEW])
        assert [entry for entry, _ in read(path)] == [*survivors, NEW]


def test_a_torn_record_that_is_longer_than_what_is_read_at_a_time_hides_nothing_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(encode(ENTRIES[0]) + encode(Note("long" * 1000))[:3000] + b"\n" + encode(NEW))
    [first] = read(path, 0, 10)
    [behind] = read(path, first[1], 10)
    assert (first[0], behind) == (ENTRIES[0], (NEW, path.stat().st_size))
    assert read(path, behind[1], 10) == []


def test_a_damaged_record_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, ENTRIES)
    data = bytearray(path.read_bytes())
    data[len(encode(ENTRIES[0])) + 20] ^= 1
    path.write_bytes(data)
    assert [entry for entry, _ in read(path)] == [ENTRIES[0], *ENTRIES[2:]]


def test_zeros_left_by_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, ENTRIES[:1])
    with path.open("ab") as file:
        file.write(bytes(100_000))
    assert [entry for entry, _ in read(path)] == ENTRIES[:1]
    write(path, ENTRIES[1:2])
    assert [entry for entry, _ in read(path)] == ENTRIES[:2]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be opened for writing: File exists"):
        Journal(tmp_path / "file" / "journal")


def test_a_disk_that_fills_up_leaves_only_whole_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(ENTRIES[0])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(encode(ENTRIES[0])) + 10, unlimited[1]))
    try:
        with pytest.raises(JournalError, match="cannot be written: File too large"):
            journal.append(ENTRIES[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    journal.append(ENTRIES[2])
    journal.close()
    assert [entry for entry, _ in read(tmp_path / "journal")] == [ENTRIES[0], ENTRIES[2]]


def test_a_journal_of_version_1_tells_epochs_from_what_was_measured_once(tmp_path: Path) -> None:
    records = [
        {"kind": "opened", "identity": "c0ffee/1", "name": "1_lr=0.1", "time": 1000, "tags": {}, "parent": "c0ffee"},
        {"kind": "metrics", "values": {"loss": 0.5, "accuracy": 0.8}, "step": 1, "time": 2000},
        {"kind": "metrics", "values": {"test_accuracy": 0.9}, "step": 1, "time": 3000},
        {"kind": "closed", "status": "FINISHED", "time": 3000},
    ]
    path = tmp_path / "journal"
    texts = [json.dumps(record).encode() for record in records]
    path.write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts))
    assert [entry for entry, _ in read(path)] == [
        Opened("c0ffee/1", "1_lr=0.1", 1000, {}, "c0ffee", version=1),
        EpochMetrics({"loss": 0.5, "accuracy": 0.8}, 1, 2000),
        FinalMetrics({"test_accuracy": 0.9}, 1, 3000),
        Closed("FINISHED", 3000),
    ]


def test_a_record_that_a_later_version_wrote_is_known_as_such(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append(path, Opened("c0ffee", "sweep", 1000, version=VERSION))
    text = b'{"kind":"from the future","values":1}'
    with path.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
    assert [entry for entry, _ in read(path)][1] == Unknown("from the future")
