"""The sink that writes a run's facts into its journal, for the courier to deliver."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeptrail.outbox import entries, journal
from sweeptrail.records import Epoch, RunResult, RunStart

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
        self._journal = journal.Journal(self._run_folder / journal.FILE_NAME)
        identity = f"{self._parent}/{start.index}"
        tags = {**self._tags, "sweeptrail.run": str(start.index)}
        self._write(
            entries.opened(identity, name=start.name, time=start.time, tags=tags, parent=self._parent),
            entries.params({**start.params, **start.settings}),
        )

    def epoch(self, epoch: Epoch) -> None:
        self._write(entries.metrics(epoch.metrics, step=epoch.epoch, time=epoch.time))

    def end(self, result: RunResult) -> None:
        last_step = result.epochs[-1].epoch if result.epochs else 0
        final = [entries.metrics(result.metrics, step=last_step, time=result.time)] if result.metrics else []
        events = sorted(path.name for path in self._run_folder.glob("events.out.tfevents.*"))
        self._write(
            *final,
            *self._reasons(result),
            *(entries.artifact(name, "tensorboard") for name in events),
            entries.closed(result.status, time=result.time),
        )
        assert self._journal
        self._journal.close()

    def _reasons(self, result: RunResult) -> list[journal.Entry]:
        written: list[journal.Entry] = []
        if result.error:
            (self._run_folder / "error.txt").write_text(result.error, encoding="utf-8")
            written += [entries.artifact("error.txt"), entries.tags({"sweeptrail.reason": result.reason[:TAG_LENGTH]})]
        if result.warnings:
            written.append(entries.tags({"sweeptrail.warnings": "; ".join(result.warnings)[:TAG_LENGTH]}))
        return written

    def _write(self, *records: journal.Entry) -> None:
        assert self._journal
        for record in records:
            self._journal.append(record)
        self._journal.sync()
