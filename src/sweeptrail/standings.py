"""What the parent run says of its runs: the leaderboard while they go on, the report and the champion at the end."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sweeptrail import predictions, report
from sweeptrail.data import FashionMnist
from sweeptrail.errors import SweeptrailError
from sweeptrail.leaderboard import Entrant, Leaderboard, csv_text, final_metrics, make_leaderboard
from sweeptrail.note import note
from sweeptrail.outbox import entries, journal
from sweeptrail.outbox.mailbox import Mailbox
from sweeptrail.records import Job, RunResult
from sweeptrail.results import write_whole
from sweeptrail.settings import Settings
from sweeptrail.sinks.outbox import append

T = TypeVar("T")

LEADERBOARD = "leaderboard.csv"
INTERVAL = 10.0
"""Seconds at least between two leaderboards of a sweep that goes on."""


class Standings:
    """Keeps the leaderboard of the sweep in a folder."""

    def __init__(self, folder: Path, identity: str, tracking_uri: str) -> None:
        self._folder = folder
        self._identity = identity
        self._tracking_uri = tracking_uri
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last leaderboard is old enough for another."""
        return time.monotonic() - self._written > INTERVAL

    def board(self, results: Iterable[RunResult]) -> Leaderboard:
        """Return the leaderboard of these runs."""
        return make_leaderboard(self._entrant(result) for result in results)

    def write(self, board: Leaderboard) -> Iterator[journal.Entry]:
        """Write leaderboard.csv and yield what the journal of the parent must say of it."""
        write_whole(self._folder / LEADERBOARD, csv_text(board))
        yield entries.artifact(LEADERBOARD)
        yield entries.note(note(board, identity_of=self._identity_of))
        if champion := board.champion:
            finals = final_metrics(champion)
            values = {f"champion_{name}": finals[name] for name in (board.ranking, "test_accuracy") if name in finals}
            ended = sum(len(place.entrants) for place in board.places)
            yield entries.metrics(values, step=ended, time=time.time())
            yield entries.tags({"sweeptrail.champion": champion.result.name})
            yield entries.link("sweeptrail.champion_run_id", self._identity_of(champion))
        self._written = time.monotonic()

    def _identity_of(self, entrant: Entrant) -> str:
        return f"{self._identity}/{entrant.result.index}"

    def _entrant(self, result: RunResult) -> Entrant:
        box = Mailbox(self._folder / result.name / journal.FILE_NAME, self._tracking_uri)
        return Entrant(self._folder.name, result, box.run_id or "", box.experiment_id)


def conclude(
    folder: Path, board: Leaderboard, jobs: Mapping[int, Job], settings: Settings, data: FashionMnist,
    say: Callable[[str], None],
) -> list[journal.Entry]:  # fmt: skip
    """Draw the report and export the champion; return what the journal of the parent must say of that.

    The runs have ended well by now: what goes wrong here is said, and costs the sweep nothing else.
    """
    if not board.champion:
        return []
    champion = jobs[board.champion.result.index]
    # Side by side: most of either is importing.
    with ThreadPoolExecutor(1) as pool:
        exported = pool.submit(_register, folder, board, jobs, settings, data) if settings.register else None
        files = _attempt(lambda: _report(folder, board, champion, settings, data), say) or []
        if exported:
            _attempt(exported.result, say)
    return [entries.artifact(file, str(Path(file).parent).removeprefix(".")) for file in files]


def _report(folder: Path, board: Leaderboard, champion: Job, settings: Settings, data: FashionMnist) -> list[str]:
    """Write report.html and the plots; return their paths in the folder."""
    if not settings.report:
        return []
    path = Path(champion.folder, predictions.FILE_NAME)
    answers = predictions.load(path) if path.exists() else None  # a run of another machine has left them there
    written = report.write(folder, board, title=folder.name, data=data, predictions=answers)
    return [file.relative_to(folder).as_posix() for file in written]


def _register(
    folder: Path, board: Leaderboard, jobs: Mapping[int, Job], settings: Settings, data: FashionMnist
) -> None:
    """Have the champion become a version of the registered model; export the others, if they are wanted as well."""
    from sweeptrail import model

    assert board.champion
    assert settings.register
    champion = board.champion.result.index
    value = final_metrics(board.champion)[board.ranking]
    finished = [entrant.result.index for place in board.places for entrant in place.entrants]
    for index in finished if settings.log_models == "all" else [champion]:
        path = Path(jobs[index].folder, journal.FILE_NAME)
        kinds = {entry["kind"] for entry, _ in journal.read(path)}
        if "version" in kinds:
            continue  # in an earlier sitting
        records = model.records(jobs[index], examples=data.test_images[:2])
        if index == champion:
            records.append(model.version(jobs[index], settings.register, folder.name, board.ranking, value))
        append(path, *records)


def _attempt(step: Callable[[], T], say: Callable[[str], None]) -> T | None:
    try:
        return step()
    except SweeptrailError as error:
        say(str(error))
        return None
