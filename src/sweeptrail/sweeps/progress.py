"""Tells a console what the runs of a folder have written into their journals."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, Entry, EpochMetrics, Opened, Paused
from sweeptrail.outbox.history import epoch_of
from sweeptrail.records import Job, RunStart
from sweeptrail.training.sinks.console import Console

INTERVAL = 0.25
"""Seconds between two looks."""


SILENT_EPOCHS = 10
"""After so many of its usual epochs without one, a person is told that a run is silent."""

SHORTEST_SILENCE = 60.0
"""Seconds."""


@dataclass
class Pace:
    """How the epochs of an open run come."""

    since: float
    """When it began, or completed its last one."""
    durations: list[float] = field(default_factory=list)
    is_told: bool = False

    def silence(self, now: float) -> float | None:
        """Return for how long there was none, once, when that is unusually long."""
        seconds = now - self.since
        if self.is_told or not self.durations or seconds < max(SHORTEST_SILENCE, SILENT_EPOCHS * self.usual):
            return None
        self.is_told = True
        return seconds

    @property
    def usual(self) -> float:
        """Seconds of an epoch."""
        return median(self.durations)


class Follower:
    """Follows jobs wherever they are carried out, through the files that they write anyway."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting: dict[Path, Job] = {}
        self._offsets: dict[Path, int] = {}
        self._console = console
        self._clock = clock
        self._paces: dict[int, Pace] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="follower", daemon=True)

    def follow(self, job: Job) -> None:
        """Follow a job that is about to begin, or to go on, unless it is not tracked: then it writes no journal."""
        if "outbox" not in job.sinks:
            return
        path = Path(job.folder) / journal.FILE_NAME
        if path not in self._offsets and path.exists():
            self._offsets[path] = path.stat().st_size  # a run that goes on has been shown up to here
        self._waiting[path] = job

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the console the rest, and end."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self.look()
        self.look()

    def look(self) -> None:
        """Tell the console what is new."""
        for path, job in list(self._waiting.items()):
            for entry, offset in journal.read(path, self._offsets.get(path, 0)):
                self._offsets[path] = offset
                self._tell(job, entry)
                if isinstance(entry, Closed):
                    self._waiting.pop(path, None)  # twice where a worker was lost after the end of its run
                    self._paces.pop(job.index, None)
        for index, pace in list(self._paces.items()):
            if seconds := pace.silence(self._clock()):
                self._console.silent(index, seconds, pace.usual)

    def _tell(self, job: Job, entry: Entry) -> None:
        match entry:
            case Opened():
                self._paces.setdefault(job.index, Pace(0.0)).since = self._clock()
                self._console.begin(
                    RunStart(job.index, job.name, job.params, epochs=job.epochs, time=entry.time / 1000)
                )
            case EpochMetrics():
                epoch = epoch_of(entry, job.index)
                pace = self._paces[job.index]
                pace.since = self._clock()
                pace.durations.append(epoch.epoch_duration)
                self._console.epoch(epoch)
            case Paused():
                self._paces.pop(job.index, None)


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Job], None]]:
    """Show on the console, while the `with` block lasts, what the runs write of whose jobs it is told."""
    follower = Follower(console)
    with console:
        follower.start()
        try:
            yield follower.follow
        finally:
            follower.stop()
