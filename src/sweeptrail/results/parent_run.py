"""What the parent run says of its runs: the leaderboard while they go on, the report and the champion at the end."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from sweeptrail.engines import Engine
from sweeptrail.engines.processes.engine import Processes
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.evaluation import predictions
from sweeptrail.outbox import entries, journal
from sweeptrail.outbox.delivery.state import Mailbox
from sweeptrail.outbox.run_journal import append
from sweeptrail.records import Job, RunResult
from sweeptrail.results import report
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, csv_text, final_metrics, make_leaderboard
from sweeptrail.results.markdown import note
from sweeptrail.results.runs_on_disk import RUNS, as_json
from sweeptrail.sweeps.settings import Settings
from sweeptrail.system.files import write_whole
from sweeptrail.training.export import Export, artifacts, version

LEADERBOARD = "leaderboard.csv"
INTERVAL = 10.0
"""Seconds at least between two leaderboards of a sweep that goes on."""


class Standings:
    """Keeps the leaderboard of the sweep in a folder."""

    def __init__(self, folder: Path, identity: str, tracking_uri: str, *, has_report: bool) -> None:
        self._folder = folder
        self._has_report = has_report
        self._identity = identity
        self._tracking_uri = tracking_uri
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last leaderboard is old enough for another."""
        return time.monotonic() - self._written > INTERVAL

    def board(self, results: Iterable[RunResult]) -> Leaderboard:
        """Return the leaderboard of these runs."""
        return make_leaderboard(self._ranked_run(result) for result in results)

    def write(self, board: Leaderboard) -> Iterator[journal.Entry]:
        """Write leaderboard.csv and yield what the journal of the parent must say of it."""
        write_whole(self._folder / LEADERBOARD, csv_text(board))
        yield entries.artifact(LEADERBOARD)
        yield entries.note(note(board, identity_of=self._identity_of, has_report=self._has_report))
        if champion := board.champion:
            finals = final_metrics(champion)
            values = {f"champion_{name}": finals[name] for name in (board.ranking, "test_accuracy") if name in finals}
            ended = sum(len(row.runs) for row in board.rows)
            yield entries.metrics(values, step=ended, time=time.time())
            yield entries.tags({"sweeptrail.champion": champion.result.name})
            yield entries.link("sweeptrail.champion_run_id", self._identity_of(champion))
        self._written = time.monotonic()

    def write_runs(self, board: Leaderboard) -> Iterator[journal.Entry]:
        """Write what `compare` needs to know of each run, so that it need not ask the server for all of them."""
        parent = Mailbox(self._folder / journal.FILE_NAME, self._tracking_uri)
        write_whole(self._folder / RUNS, as_json(board, parent.run_id or ""))
        yield entries.artifact(RUNS)

    def _identity_of(self, run: RankedRun) -> str:
        return f"{self._identity}/{run.result.index}"

    def _ranked_run(self, result: RunResult) -> RankedRun:
        box = Mailbox(self._folder / result.name / journal.FILE_NAME, self._tracking_uri)
        return RankedRun(self._folder.name, result, box.run_id or "", box.experiment_id)


def conclude(
    folder: Path, board: Leaderboard, jobs: Mapping[int, Job], settings: Settings, data: FashionMnist,
    say: Callable[[str], None],
) -> list[journal.Entry]:  # fmt: skip
    """Draw the report and have the champion registered; return what the journal of the parent must say of that.

    The runs have ended well by now: what goes wrong here is said, and costs the sweep nothing else.
    """
    if not board.champion:
        return []
    files: list[str] = []
    with closing(ForkServer(("torch", "sweeptrail.fashion_mnist.networks"))) as server:
        try:
            if settings.register:
                server.start()  # imports while the report is drawn
            if settings.report:
                files = _report(folder, board, jobs[board.champion.result.index], data)
            if settings.register:
                _register(folder, board, jobs, settings, Processes(1, 0, server), Export(data.test_images[:2]), say)
        except SweeptrailError as error:
            say(str(error))
        except Exception as error:  # whatever numbers make a library for plots raise
            say(f"the sweep is finished, but not its report and its model ({type(error).__name__}: {error})")
    return [entries.artifact(file, str(Path(file).parent).removeprefix(".")) for file in files]


def _report(folder: Path, board: Leaderboard, champion: Job, data: FashionMnist) -> list[str]:
    """Write report.html and the plots; return their paths in the folder."""
    path = Path(champion.folder, predictions.FILE_NAME)
    answers = predictions.load(path) if path.exists() else None  # a run of another machine has left them there
    written = report.write(folder, board, title=folder.name, data=data, predictions=answers)
    return [file.relative_to(folder).as_posix() for file in written]


def _register(
    folder: Path, board: Leaderboard, jobs: Mapping[int, Job], settings: Settings, engine: Engine, work: Export,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Have the champion become a version of the registered model; export the others, if they are wanted as well."""
    assert board.champion
    assert settings.register
    champion = board.champion.result.index
    value = final_metrics(board.champion)[board.ranking]
    finished = [run.result.index for row in board.rows for run in row.runs]
    wanted = finished if settings.log_models == "all" else [champion]
    kinds = {index: "version" if index == champion else "artifact" for index in wanted}
    todo = [jobs[index] for index, kind in kinds.items() if not _is_told(jobs[index], kind)]
    with closing(engine.run(work, todo)) as exported:
        for result in exported:
            if result.status != "FINISHED":
                reason = result.reason.removeprefix("sweeptrail.errors.SweeptrailError: ")
                say(f"{result.name}: no model of it ({reason})")
                continue
            job = jobs[result.index]
            records = artifacts(Path(job.folder))
            if result.index == champion:
                records.append(version(job, settings.register, folder.name, board.ranking, value))
            append(Path(job.folder, journal.FILE_NAME), *records)


def _is_told(job: Job, kind: str) -> bool:
    """Tell whether the journal of a run has its whole model already, from an earlier sitting."""
    told = [entry for entry, _ in journal.read(Path(job.folder, journal.FILE_NAME)) if entry["kind"] == kind]
    if kind == "version":
        return bool(told)
    files = {entry["path"] for entry in artifacts(Path(job.folder))}
    return bool(files) and files <= {entry["path"] for entry in told}
