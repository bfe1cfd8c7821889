"""Tells a console what the runs of a folder have written into their journals."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, Entry, EpochMetrics, Opened
from sweeptrail.outbox.history import epoch_of
from sweeptrail.records import Job, RunStart
from sweeptrail.training.sinks.console import Console

INTERVAL = 0.25
"""Seconds between two looks."""


class Follower:
    """Follows jobs wherever they are carried out, through the files that they write anyway."""

    def __init__(self, jobs: Iterable[Job], console: Console) -> None:
        self._waiting = {Path(job.folder) / journal.FILE_NAME: job for job in jobs}
        # A run that goes on has been shown up to here.
        self._offsets = {path: path.stat().st_size for path in self._waiting if path.exists()}
        self._console = console
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the console the rest, and end."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self._look()
        self._look()

    def _look(self) -> None:
        for path, job in list(self._waiting.items()):
            for entry, offset in journal.read(path, self._offsets.get(path, 0)):
                self._offsets[path] = offset
                self._tell(job, entry)
                if isinstance(entry, Closed):
                    del self._waiting[path]

    def _tell(self, job: Job, entry: Entry) -> None:
        match entry:
            case Opened():
                self._console.begin(
                    RunStart(job.index, job.name, job.params, epochs=job.epochs, time=entry.time / 1000)
                )
            case EpochMetrics():
                self._console.epoch(epoch_of(entry, job.index))


@contextmanager
def shown(jobs: Iterable[Job], console: Console) -> Iterator[None]:
    """Show on the console, while the `with` block lasts, what the runs write."""
    follower = Follower(jobs, console)
    with console:
        follower.start()
        try:
            yield
        finally:
            follower.stop()
