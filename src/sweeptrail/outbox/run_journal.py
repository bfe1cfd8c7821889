"""The journal of one run: the sink that keeps what the tracking server must be told of it."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sweeptrail.errors import SweeptrailError
from sweeptrail.outbox import journal, output_log
from sweeptrail.outbox.entries import (
    VERSION,
    Artifact,
    Closed,
    Dataset,
    Entry,
    EpochMetrics,
    FinalMetrics,
    Metrics,
    Opened,
    Params,
    Paused,
    Tags,
    Version,
    milliseconds,
)
from sweeptrail.outbox.history import read_history
from sweeptrail.outbox.journal import FILE_NAME, Journal, append
from sweeptrail.records import Epoch, Job, RunResult, RunStart
from sweeptrail.sink import Sink
from sweeptrail.system import streams
from sweeptrail.system.files import write_whole
from sweeptrail.tracking import facts, tags

ARTIFACTS = "artifacts"
"""The folder, in the run's, of files that were told as artifacts of it."""

TAG_LENGTH = 500
"""A reason that is longer is cut in its tag; the traceback is an artifact, whole."""

SYNC_INTERVAL = 1.0
"""Seconds between two syncs to disk of what is told between epochs; a kill loses nothing, a power cut that much."""

AT_THE_END = "the end"

STACK = "stack.txt"
"""Where the threads of a run were that took too long."""


class RunJournal(Sink):
    """Keeps what the tracking server must be told of a run in the run's own folder.

    Of a run that goes on, what its journal has already is not written again: the server would show it twice.
    """

    is_vital = True

    def __init__(self, folder: str, *, parent: str, tags: Mapping[str, str]) -> None:
        """`folder` holds one folder for each run, by its name; `parent` is the identity of the sweep."""
        self._folder = Path(folder)
        self._parent = parent
        self._tags = tags
        self.params: Mapping[str, str] = {}
        """Of the run that is open, those of an earlier sitting among them."""

    def begin(self, start: RunStart) -> None:
        self._run_folder = self._folder / start.name
        self._before = read_history(self._run_folder, start.index)
        self._synced, self.remarks = 0.0, ()
        self._files = _told_files(self._run_folder)
        self._journal = Journal(self._run_folder / FILE_NAME)
        params = {name: str(value) for name, value in {**start.params, **start.settings}.items()}
        self.params = {**self._before.params, **params}
        self._journal.write(
            Opened(
                identity=run_identity(self._parent, start.index),
                name=start.name,
                time=milliseconds(start.time),
                tags={**self._tags, tags.RUN: str(start.index)},
                parent=self._parent,
                version=VERSION,
            ),
            *self._changes(),
            # Of those that it has, MLflow would refuse another value: the number of epochs may be another.
            Params({name: value for name, value in params.items() if name not in self._before.params}),
        )

    def _changes(self) -> Iterator[Tags]:
        """Yield the tags that are others now that the run goes on."""
        before = self._before
        found = {tags.REASON: ""} if before.reason else {}
        if before.stopped_early:
            found[tags.STOPPED_EARLY] = ""
        if before.has_begun and tags.EPOCHS in self._tags:  # it was asked for more epochs
            found |= {name: self._tags[name] for name in (tags.KEY, tags.EPOCHS)}
        if found:
            yield Tags(found)

    def epoch(self, epoch: Epoch) -> None:
        before = {known.epoch: known for known in self._before.epochs}.get(epoch.epoch)
        if before and not self._differs(f"epoch {epoch.epoch}", _numbers(before), _numbers(epoch)):
            return
        self._journal.write(
            EpochMetrics(epoch.metrics, epoch.epoch, milliseconds(epoch.time)),
            *_event_files(self._run_folder, growing=True),  # TensorBoard's sink was told first
        )

    def measure(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Tell what was measured at a step, at this time in seconds since 1970."""
        told = {name: value for name, value in values.items() if not self._knows(name, step, value)}
        if told:
            self._tell(Metrics(told, step, milliseconds(time)))

    def add_params(self, values: Mapping[str, str]) -> None:
        """Tell further params, which can never be changed."""
        self._tell(Params(values))

    def add_tags(self, values: Mapping[str, str]) -> None:
        """Tell further tags."""
        self._tell(Tags(values))

    def add_artifact(self, path: Path, to: str) -> None:
        """Have a file of the run's folder delivered, into the folder `to` of the artifacts, unless it is unchanged."""
        name = path.relative_to(self._run_folder).as_posix()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        if self._files.get((name, to)) != digest:
            self._tell(Artifact(name, to, digest=digest))
            self._files[name, to] = digest

    def add_dataset(self, dataset: facts.Dataset) -> None:
        """Tell which data the run uses."""
        self._tell(Dataset(**vars(dataset)))

    def _tell(self, entry: Entry) -> None:
        self._journal.append(entry)
        if (now := time.monotonic()) - self._synced > SYNC_INTERVAL:
            self._synced = now
            self._journal.sync()

    def end(self, result: RunResult) -> None:
        streams.flush()  # what the run has printed is among its files
        last_step = result.epochs[-1].epoch if result.epochs else 0
        final: list[Entry] = []
        before = {name: value for name, value in self._before.metrics.items() if name in result.metrics}
        if result.metrics and (not before or self._differs(AT_THE_END, before, result.metrics)):
            final = [
                FinalMetrics(result.metrics, last_step, milliseconds(result.time)),
                Tags({tags.FINAL: ",".join(result.metrics)}),
            ]
        self._journal.write(*final, *_ending(self._run_folder, result))
        self._journal.close()

    def _differs(self, when: str, before: Mapping[str, float], now: Mapping[str, float]) -> bool:
        """Tell whether something was measured otherwise than before; note the first time."""
        different = [name for name in now if not _same(before.get(name), now[name])]
        is_expected = tags.EPOCHS in self._tags and when == AT_THE_END  # of more epochs than before
        if different and not self.remarks and not is_expected:
            name = different[0]
            self.remarks = [
                f"{name} at {when} is {now[name]}, and was {before.get(name)} before the run went on: "
                "the task does not give the same numbers again"
            ]
        return bool(different)

    def _knows(self, name: str, step: int, value: float) -> bool:
        """Tell whether the journal has this from an earlier sitting."""
        before = self._before.steps.get((name, step), ())
        if any(_same(each, value) for each in before):
            return True
        if len(before) == 1:  # else the task logs a step several times
            self._differs(f"step {step}", {name: before[0]}, {name: value})
        return False


def _told_files(folder: Path) -> dict[tuple[str, str], str]:
    """Return the digest of each artifact that the journal tells of, by its path and its folder among the artifacts."""
    told = (entry for entry, _ in journal.read(folder / FILE_NAME))
    return {(entry.path, entry.to): entry.digest for entry in told if isinstance(entry, Artifact)}


def _numbers(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in epoch.metrics.items() if not name.endswith("_duration")}


def _same(before: float | None, now: float) -> bool:
    return before == now or (before is not None and math.isnan(before) and math.isnan(now))


def run_identity(parent: str, index: int) -> str:
    """Return by what the tracking server knows a run of a sweep."""
    return f"{parent}/{index}"


def close_abandoned(job: Job, result: RunResult) -> None:
    """End the journal of a job that did not do so, or not in this way.

    Its worker died, or it failed before its run began; or it was told to end because it took too long, and has
    noted that it was stopped.
    """
    folder = Path(job.folder)
    history = read_history(folder, job.index)
    if history.status == result.status:
        return
    sink = RunJournal(str(folder.parent), parent=job.parent, tags=job.tags)
    sink.begin(RunStart(job.index, job.name, job.params, time=result.time))
    sink.end(replace(result, epochs=history.epochs))


def keep_stack(run_folder: Path, stack: bytes) -> None:
    """Keep where the threads of a run were that took too long; where that is not possible, its reason must do."""
    with suppress(OSError, SweeptrailError):
        run_folder.mkdir(parents=True, exist_ok=True)
        write_whole(run_folder / STACK, stack)


def close_stopped(job: Job, result: RunResult) -> None:
    """End as FINISHED the journal of a run that has paused and is not taken further."""
    tagged = {tags.STOPPED_EARLY: result.stopped_early, tags.REASON: ""}
    append(Path(job.folder) / FILE_NAME, Tags(tagged), *_ending(Path(job.folder), result))


def close_open_runs(sweep_folder: Path, reason: str) -> int:
    """End as KILLED what is open below a folder whose processes are gone; return how many runs that were."""
    closed = 0
    for path in sorted(sweep_folder.glob(f"*/{FILE_NAME}")):
        if read_history(path.parent, 0).is_open:
            result = RunResult(0, path.parent.name, {}, "KILLED", error=reason, time=time.time())
            append(path, *_ending(path.parent, result))
            closed += 1
    return closed


def add_model(run_folder: Path, model: str, version: Version | None) -> None:
    """Tell of the files of a run's model, in the folder `model`, and of the version that they become, if any."""
    append(run_folder / FILE_NAME, *_model_files(run_folder, model), *([version] if version else []))


def has_model(run_folder: Path, model: str, *, as_version: bool) -> bool:
    """Tell whether a run's journal has its whole model already, from an earlier sitting."""
    told = [entry for entry, _ in journal.read(run_folder / FILE_NAME)]
    if as_version:
        return any(isinstance(entry, Version) for entry in told)
    files = {entry.path for entry in _model_files(run_folder, model)}
    return bool(files) and files <= {entry.path for entry in told if isinstance(entry, Artifact)}


def _model_files(run_folder: Path, model: str) -> list[Artifact]:
    """Return the files of a run's model; none if one of this name is among its artifacts already."""
    if (run_folder / ARTIFACTS / model).exists():
        return []
    files = (path.relative_to(run_folder) for path in sorted((run_folder / model).rglob("*")) if path.is_file())
    return [Artifact(file.as_posix(), file.parent.as_posix()) for file in files]


def _ending(folder: Path, result: RunResult) -> Iterator[Entry]:
    """Yield what the journal says when a run ends or pauses: why it did not finish, its files, its status."""
    if result.error:
        write_whole(folder / "error.txt", result.error)
        yield Artifact("error.txt")
        yield Tags({tags.REASON: result.reason[:TAG_LENGTH]})
    if result.warnings:
        yield Tags({tags.WARNINGS: "; ".join(result.warnings)[:TAG_LENGTH]})
    for path in (folder / output_log.FILE_NAME, folder / STACK):
        if path.is_file() and path.stat().st_size:
            yield Artifact(path.name)
    yield from _event_files(folder)
    if result.status == "PAUSED":
        yield Paused(milliseconds(result.time))
        return
    yield Closed(result.status, milliseconds(result.time))


def _event_files(folder: Path, *, growing: bool = False) -> Iterator[Artifact]:
    for path in sorted(folder.glob("events.out.tfevents.*")):
        yield Artifact(path.name, "tensorboard", growing)
