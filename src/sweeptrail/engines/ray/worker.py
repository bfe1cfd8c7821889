"""What a worker on another machine does with a job, wherever the folder of the sweep is."""

import io
import os
import pickle
import platform
import signal
import tempfile
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import carry_out
from sweeptrail.engines.output import keeping_output
from sweeptrail.engines.ray.timer import Timer
from sweeptrail.errors import SweeptrailError, TrackingError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.entries import Opened
from sweeptrail.records import Job, RunResult
from sweeptrail.system.files import write_whole

TOKEN_NAME = "shared.token"
"""The file in the sweep's folder by which a worker sees that its machine has that folder too."""

CREDENTIALS = ("MLFLOW_TRACKING_", "MLFLOW_S3_", "AWS_", "AZURE_STORAGE_", "DATABRICKS_")
"""How the names of the variables begin by which MLflow and its stores of artifacts know who is there."""

DELIVERY_TIMEOUT = 10.0
"""Seconds that a worker waits for a server that accepts nothing; whatever is left goes to the driver."""

Files = Mapping[str, bytes]
"""What is in a folder, by the path in it."""


@dataclass(frozen=True)
class Home:
    """Where a sweep lives, and all that a worker elsewhere needs to report to its tracking server."""

    folder: str
    token: str
    uri: str = field(repr=False)
    opening: Opened | None
    """The record that opened the sweep's own run."""
    credentials: Mapping[str, str] = field(repr=False)

    def is_here(self) -> bool:
        """Tell whether this machine sees the sweep's folder."""
        try:
            return Path(self.folder, TOKEN_NAME).read_text() == self.token
        except OSError:
            return False


@contextmanager
def home_of(folder: Path, uri: str, environment: Mapping[str, str]) -> Iterator[Home]:
    """Describe the sweep in this folder to its workers, and mark the folder so that they know it."""
    opened = (entry for entry, _ in journal.read(folder / journal.FILE_NAME) if isinstance(entry, Opened))
    credentials = {name: value for name, value in environment.items() if name.startswith(CREDENTIALS)}
    token = uuid.uuid4().hex
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKEN_NAME).write_text(token)
    try:
        yield Home(str(folder), token, uri, next(opened, None), credentials)
    finally:
        (folder / TOKEN_NAME).unlink(missing_ok=True)


@dataclass(frozen=True)
class Shared:
    """What all jobs have in common; each machine gets it once."""

    work: Work
    home: Home | None
    """None when the runs keep nothing on disk."""
    timer: Timer | None = None
    """None when a run may take as long as it likes."""


@dataclass(frozen=True)
class Answer:
    """What comes back of a job: its result, or why there is none."""

    result: RunResult | str | SweeptrailError
    files: Files = field(default_factory=dict)
    """What belongs into the run's folder and is not there yet."""
    out: str = ""
    """What a job printed that is not tracked: it has no folder to keep it in."""
    err: str = ""


_loaded: dict[str, Shared] = {}
"""What this worker has from its machine's store: the copy that its first job got, with all that it has built since."""


def answer(key: str, shared: Shared, message: bytes) -> bytes:
    """Carry out one job, which is the message, and return an Answer; both are pickled.

    `key` tells whether `shared` is the same as that of the job before.
    """
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = shared
    os.environ["MPLBACKEND"] = "agg"  # whatever the driver's is, here is no display
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by it; a shell may have had it ignored
    out, err = io.StringIO(), io.StringIO()
    # Ray forwards what is printed as well, and loses what is on its way when the sweep ends.
    with redirect_stdout(out), redirect_stderr(err):
        found = _carry_out(_loaded[key], message)
    found = replace(found, out=out.getvalue(), err=err.getvalue())
    try:
        return pickle.dumps(found)
    except Exception:
        return pickle.dumps(Answer(f"the result cannot be pickled:\n{traceback.format_exc()}"))


def _carry_out(shared: Shared, message: bytes) -> Answer:
    try:
        job, files = pickle.loads(message)
    except Exception:
        return Answer(f"the job cannot be read in a worker:\n{traceback.format_exc()}")
    if shared.home is None or shared.home.is_here():
        return Answer(carry_out(_aside(shared), job))
    try:
        return _carry_out_elsewhere(_aside(shared), job, shared.home, files)
    except SweeptrailError as error:
        return Answer(error)


def _aside(shared: Shared) -> Work:
    """Return the work, with all that is kept beside it."""
    work = keeping_output(shared.work)
    return shared.timer.timed(work) if shared.timer else work


def _carry_out_elsewhere(work: Work, job: Job, home: Home, files: Files) -> Answer:
    """Carry out a job in a folder of its own; `files` are those that the run left in its folder before."""
    if home.uri.startswith("sqlite"):
        raise TrackingError(
            f"tracking_uri: {platform.node()} has neither {home.folder} nor the SQLite file that tracks the sweep; "
            "write tracking_uri=http://HOST:5000, where a tracking server is, or give all machines that folder"
        )
    with tempfile.TemporaryDirectory(prefix="sweeptrail-") as temporary:
        folder = Path(temporary, job.name)
        write_files(folder, files)
        result: RunResult | str
        try:
            with _reporting(home, Path(temporary)):
                result = carry_out(work, replace(job, folder=str(folder)))
        except KeyboardInterrupt:  # cancelled: what it has left is needed to go on later
            result = "the run was cancelled"
        return Answer(result, read_files(folder))


def read_files(folder: Path) -> dict[str, bytes]:
    """Return every whole file below a folder; {} if there is none."""
    whole = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.read_bytes() for path in whole}


def write_files(folder: Path, files: Files) -> None:
    """Write the files into a folder, each whole, the journal last: it speaks of the others."""
    for name in sorted(files, key=lambda name: name == journal.FILE_NAME):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, files[name])


@contextmanager
def _reporting(home: Home, folder: Path) -> Iterator[None]:
    os.environ.update(home.credentials)
    # Whatever there is to say, the driver's courier says it.
    courier = BackgroundCourier(Courier(home.uri, folder, parent=home.opening), say=lambda message: None)
    courier.start()
    try:
        yield
    except BaseException:
        courier.finish(0)  # there is no time; the driver's courier delivers the rest
        raise
    courier.finish(DELIVERY_TIMEOUT)
