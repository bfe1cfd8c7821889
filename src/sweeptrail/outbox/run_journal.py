"""The sink that writes a run's facts into its journal, for the courier to deliver."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeptrail.outbox import entries, journal
from sweeptrail.outbox.history import read_history
from sweeptrail.records import Epoch, Job, RunResult, RunStart
from sweeptrail.system.files import write_whole

TAG_LENGTH = 500
"""A reason that is longer is cut in its tag; the traceback is an artifact, whole."""


class Outbox:
    """Keeps what the tracking server must be told of a run in the run's own folder."""

    def __init__(self, folder: str, *, parent: str, tags: Mapping[str, str]) -> None:
        """`folder` holds one folder for each run, by its name; `parent` is the identity of the sweep."""
        self._folder = Path(folder)
        self._parent = parent
        self._tags = tags
        self._journal: journal.Journal | None = None

    def begin(self, start: RunStart, *_: Any) -> None:
        self._run_folder = self._folder / start.name
        history = read_history(self._run_folder, start.index)
        self._recorded = {epoch.epoch for epoch in history.epochs}
        self._journal = journal.Journal(self._run_folder / journal.FILE_NAME)
        identity = f"{self._parent}/{start.index}"
        tags = {**self._tags, "sweeptrail.run": str(start.index)}
        self._write(
            entries.opened(identity, name=start.name, time=start.time, tags=tags, parent=self._parent),
            *([entries.tags({"sweeptrail.reason": ""})] if history.reason else []),
            entries.params({**start.params, **start.settings}),
        )

    def epoch(self, epoch: Epoch) -> None:
        if epoch.epoch not in self._recorded:  # else a run that goes on tells what the journal has already
            self._recorded.add(epoch.epoch)
            self._write(
                entries.metrics(epoch.metrics, step=epoch.epoch, time=epoch.time),
                *event_files(self._run_folder, growing=True),  # TensorBoard's sink was told first
            )

    def end(self, result: RunResult) -> None:
        last_step = result.epochs[-1].epoch if result.epochs else 0
        final = [entries.metrics(result.metrics, step=last_step, time=result.time)] if result.metrics else []
        assert self._journal
        self._write(*final, *ending(self._run_folder, result))
        self._journal.close()

    def _write(self, *records: journal.Entry) -> None:
        assert self._journal
        for record in records:
            self._journal.append(record)
        self._journal.sync()


def ending(folder: Path, result: RunResult) -> Iterator[journal.Entry]:
    """Yield what the journal says at the end of a run: why it did not finish, its files, its status."""
    if result.error:
        write_whole(folder / "error.txt", result.error)
        yield entries.artifact("error.txt")
        yield entries.tags({"sweeptrail.reason": result.reason[:TAG_LENGTH]})
    if result.warnings:
        yield entries.tags({"sweeptrail.warnings": "; ".join(result.warnings)[:TAG_LENGTH]})
    yield from event_files(folder)
    yield entries.closed(result.status, time=result.time)


def event_files(folder: Path, *, growing: bool = False) -> Iterator[journal.Entry]:
    """Yield what the journal says of TensorBoard's files."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        yield entries.artifact(path.name, "tensorboard", growing=growing)


def close_abandoned(job: Job, result: RunResult) -> None:
    """End the journal of a job that did not do so: its worker died, or it failed before its run began."""
    folder = Path(job.folder)
    history = read_history(folder, job.index)
    if history.status:
        return
    sink = Outbox(str(folder.parent), parent=job.parent, tags=job.tags)
    sink.begin(RunStart(job.index, job.name, job.params, time=result.time))
    sink.end(replace(result, epochs=history.epochs))


def close_open_runs(sweep_folder: Path, reason: str) -> int:
    """End as KILLED what is open below a folder whose processes are gone; return how many runs that were."""
    closed = 0
    for path in sorted(sweep_folder.glob(f"*/{journal.FILE_NAME}")):
        if read_history(path.parent, 0).is_open:
            result = RunResult(0, path.parent.name, {}, "KILLED", error=reason, time=time.time())
            append(path, *ending(path.parent, result))
            closed += 1
    return closed


def append(path: Path, *records: journal.Entry) -> None:
    """Write records to a journal that nobody else writes to."""
    written = journal.Journal(path)
    try:
        for record in records:
            written.append(record)
        written.sync()
    finally:
        written.close()
