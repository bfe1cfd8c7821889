"""The journal of a sweep's own run: a verb for each thing that the tracking server must be told of it."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeptrail.errors import Cancelled
from sweeptrail.outbox.entries import (
    VERSION,
    Artifact,
    Closed,
    Dataset,
    Decided,
    Link,
    Metrics,
    Note,
    Opened,
    Params,
    Tags,
    milliseconds,
)
from sweeptrail.outbox.journal import FILE_NAME, Journal, append, read
from sweeptrail.records import Status
from sweeptrail.tracking import tags
from sweeptrail.tracking.uri import Tracking

COPIES = "saved"
"""The folder, in the sweep's, of copies of files that a person has saved elsewhere."""


class ParentJournal:
    """Keeps what the tracking server must be told of a sweep in the sweep's folder."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self._journal = Journal(folder / FILE_NAME)

    def begin(self, tracking: Tracking, run_tags: Mapping[str, str], *, is_resumed: bool = False) -> None:
        """Say that the sweep begins, or goes on."""
        self._journal.write(
            Opened(
                identity=self.identity,
                name=self.folder.name,
                time=milliseconds(time.time()),
                tags=run_tags,
                experiment=tracking.experiment_entry(),
                adopt={} if is_resumed else tracking.adopt_entry(),
                version=VERSION,
            )
        )

    def describe(self, settings: Mapping[str, str], goal: str, columns: Iterable[str]) -> None:
        """Tell with which settings the sweep goes on from now, and what ranks it."""
        described = {**tags.settings_tags(settings), tags.GOAL: goal, tags.COLUMNS: ",".join(columns)}
        self._journal.write(Tags(described))

    def add_tags(self, values: Mapping[str, str]) -> None:
        """Tell the tags that a person has given the sweep, and its name where it has one."""
        if values:
            self._journal.write(Tags(values))

    def add_params(self, params: Mapping[str, str]) -> None:
        """Tell the settings as params, which can never be changed."""
        self._journal.write(Params(params))

    def add_dataset(self, dataset: Dataset) -> str:
        """Tell which data the sweep uses, unless it is told; return the digest of those it used before, if others."""
        told = [entry.digest for entry, _ in read(self._journal.path) if isinstance(entry, Dataset)]
        if told[-1:] == [dataset.digest]:
            return ""
        self._journal.write(dataset)
        return told[-1] if told else ""

    def add_files(self, *paths: str) -> None:
        """Have files delivered, by their paths in the sweep's folder, below the same folders."""
        folders = [str(Path(path).parent) for path in paths]
        self._journal.write(*(Artifact(path, to.removeprefix(".")) for path, to in zip(paths, folders, strict=True)))

    def add_copies(self, files: Sequence[Path]) -> None:
        """Have files from elsewhere delivered: copies, since nothing outside the sweep's folder ever is."""
        folder = self.folder / COPIES
        if files:
            folder.mkdir(exist_ok=True)
        self._journal.write(*(Artifact(f"{COPIES}/{Path(shutil.copy(file, folder)).name}") for file in files))

    def set_note(self, text: str) -> None:
        """Give the run its description, Markdown with the links of tracking/ui_links.py."""
        self._journal.write(Note(text))

    def set_champion(self, name: str, identity: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Tell which run is the best so far, after so many have ended."""
        values = {f"champion_{metric}": value for metric, value in metrics.items()}
        self._journal.write(
            Metrics(values, step, milliseconds(time.time())),
            Tags({tags.CHAMPION: name}),
            Link(tags.CHAMPION_RUN_ID, identity),
        )

    def add_best(self, metric: str, reached: Iterable[tuple[int, float, float]]) -> None:
        """Tell which value was the best after so many whole runs, and when the last of them ended."""
        self._journal.write(
            *(Metrics({f"best_{metric}": value}, step, milliseconds(ended)) for step, value, ended in reached)
        )

    def decide(
        self,
        trial: int,
        *,
        runs: Mapping[int, str] | None = None,
        params: Mapping[str, str] | None = None,
        epochs: int | None = None,
    ) -> None:
        """Keep that a combination was chosen, whose runs have these keys, or that it is sent to this epoch."""
        keys = {str(index): key for index, key in (runs or {}).items()}
        self._journal.write(Decided(trial, milliseconds(time.time()), keys, params or {}, epochs))

    def begun(self) -> list[float]:
        """Return when each sitting up to now began, in seconds since 1970."""
        return [entry.time / 1000 for entry, _ in read(self._journal.path) if isinstance(entry, Opened)]

    def decisions(self) -> list[Decided]:
        """Return what was decided up to now."""
        return [entry for entry, _ in read(self._journal.path) if isinstance(entry, Decided)]

    def close(self, status: Status, reason: str = "") -> None:
        """Say how the sweep ended, and why it did not finish."""
        self._journal.write(Tags({tags.REASON: reason}), Closed(status, milliseconds(time.time())))
        self.release()

    def release(self) -> None:
        """Tell nothing more; the sweep's run stays as it is."""
        self._journal.close()


def close_abandoned_parent(folder: Path, reason: str) -> None:
    """End as KILLED the run of a sweep whose process is gone."""
    append(folder / FILE_NAME, Tags({tags.REASON: reason}), Closed("KILLED", milliseconds(time.time())))


@contextmanager
def pointing_to(parent: ParentJournal, tracking: Tracking) -> Iterator[None]:
    """Tell of the run that `mlflow run -P resume=...` opened for itself: it is no sweep, it points to one."""
    path = parent.folder / f"resumption-{tracking.adopt}" / FILE_NAME
    append(
        path,
        Opened(
            identity=f"{parent.identity}/resumption/{tracking.adopt}",
            name="resumption",
            time=milliseconds(time.time()),
            adopt=tracking.adopt_entry(),
            version=VERSION,
        ),
        Link(tags.RESUMES, parent.identity),
    )
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except Cancelled:
        status = "KILLED"
        raise
    finally:
        append(path, Closed(status, milliseconds(time.time())))
