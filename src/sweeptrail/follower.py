"""Tells a console what the runs of a folder have written into their journals."""

import threading
from collections.abc import Iterable
from pathlib import Path

from sweeptrail.outbox import journal
from sweeptrail.records import Epoch, Job, RunStart
from sweeptrail.sinks.console import Console

INTERVAL = 0.25
"""Seconds between two looks."""

COLUMNS = ("loss", "accuracy", "epoch_duration", "run_duration")


class Follower:
    """Follows jobs wherever they are carried out, through the files that they write anyway."""

    def __init__(self, jobs: Iterable[Job], console: Console) -> None:
        self._waiting = {Path(job.folder) / journal.FILE_NAME: job for job in jobs}
        self._offsets: dict[Path, int] = {}
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
                if entry["kind"] == "closed":
                    del self._waiting[path]

    def _tell(self, job: Job, entry: journal.Entry) -> None:
        if entry["kind"] == "opened":
            time = entry["time"] / 1000
            self._console.begin(RunStart(job.index, job.name, job.params, epochs=job.settings.epochs, time=time))
        elif entry["kind"] == "metrics" and "loss" in entry["values"]:
            columns = {name: entry["values"][name] for name in COLUMNS}
            extra = {name: value for name, value in entry["values"].items() if name not in COLUMNS}
            time = entry["time"] / 1000
            self._console.epoch(Epoch(run=job.index, epoch=entry["step"], extra=extra, time=time, **columns))
