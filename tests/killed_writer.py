"""A process that is killed two hundred times while it writes a journal and a file, which are whole each time."""

import os
import random
import signal
import sys
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Params
from sweeptrail.system.files import write_whole


def main(folder: Path) -> None:
    draw = random.Random(0)
    text = {number: f"{number}\n" * (1 + number % 50 * 40) for number in range(100)}
    for _ in range(200):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            write_for_ever(folder, text, tell)
        os.close(tell)
        for _ in range(draw.randrange(4)):
            os.read(told, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        if (folder / "results").exists():
            assert (folder / "results").read_text() in text.values()
        entries = [int(entry.values["number"]) for entry in params_in(folder / "journal")]
        assert entries == list(range(len(entries)))
    assert len(entries) > 100


def params_in(path: Path) -> list[Params]:
    return [entry for entry, _ in journal.read(path) if isinstance(entry, Params)]


def write_for_ever(folder: Path, text: dict[int, str], tell: int) -> None:
    """Write record after record and file after file; tell of each that is about to be written."""
    try:
        written = journal.Journal(folder / "journal")
        number = len(journal.read(folder / "journal"))
        while True:
            os.write(tell, b".")
            written.append(Params({"number": str(number), "text": text[number % 100]}))
            os.write(tell, b".")
            write_whole(folder / "results", text[number % 100])
            number += 1
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
