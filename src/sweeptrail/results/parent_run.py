"""What the parent run says of its runs while they go on, and at their end: the leaderboard."""

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.parent_journal import ParentJournal
from sweeptrail.outbox.run_journal import run_identity
from sweeptrail.records import Goal, RunResult
from sweeptrail.results.columns import csv_text, final_names
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, final_metrics, make_leaderboard, running_best
from sweeptrail.results.markdown import note
from sweeptrail.results.runs_on_disk import RUNS, as_json
from sweeptrail.results.words import plural
from sweeptrail.system.files import write_whole

LEADERBOARD = "leaderboard.csv"
INTERVAL = 10.0
"""Seconds at least between two leaderboards of a sweep that goes on."""


class Standings:
    """Keeps the leaderboard of a sweep, in its folder and on its own run."""

    def __init__(
        self,
        parent: ParentJournal,
        tracking_uri: str,
        *,
        goal: Goal | None = None,
        has_report: bool = False,
        remark: str = "",
    ) -> None:
        """`remark` is what a person has written, Markdown, to stand above the ranking."""
        self._parent = parent
        self._tracking_uri = tracking_uri
        self._goal = goal
        self._has_report = has_report
        self._remark = remark
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last leaderboard is old enough for another."""
        return time.monotonic() - self._written > INTERVAL

    def board(self, results: Iterable[RunResult]) -> Leaderboard:
        """Return the leaderboard of these runs; what has paused stands as if it were stopped now."""
        return make_leaderboard(self._ranked_run(_as_it_stands(result)) for result in results)

    def write(self, board: Leaderboard) -> None:
        """Write leaderboard.csv, and tell of it, of the ranking and of the champion."""
        write_whole(self._parent.folder / LEADERBOARD, csv_text(board))
        self._parent.add_files(LEADERBOARD)
        ranking = note(board, identity_of=self._identity_of, has_report=self._has_report, remark=self._remark)
        self._parent.set_note(ranking)
        if champion := board.champion:
            finals = final_metrics(champion)
            shown = {name: finals[name] for name in (board.ranking, *final_names(board)) if name in finals}
            ended = sum(len(row.runs) for row in board.rows)
            self._parent.set_champion(champion.result.name, self._identity_of(champion), shown, step=ended)
        self._written = time.monotonic()

    def write_best(self, board: Leaderboard) -> None:
        """Tell which value was the best after each of the whole runs, in the order in which they ended.

        So what was told of a search that has gone on since stays true; MLflow keeps once what is told again alike.
        """
        results = (run.result for row in board.rows for run in row.runs if not run.result.stopped_early)
        known = [(result.time, result.finals[board.ranking]) for result in results]
        ended = sorted(each for each in known if math.isfinite(each[1]))
        best = running_best(board.goal, [value for _, value in ended]) if ended else []
        # The first, each that is better, and the last, to which the line goes on.
        told = [at for at, value in enumerate(best) if at in (0, len(best) - 1) or value != best[at - 1]]
        self._parent.add_best(board.ranking, [(at + 1, best[at], ended[at][0]) for at in told])

    def write_runs(self, board: Leaderboard) -> None:
        """Leave what `compare` needs to know of each run, so that it need not ask the server for all of them."""
        parent_id = DeliveryState(self._parent.folder / FILE_NAME, self._tracking_uri).run_id
        write_whole(self._parent.folder / RUNS, as_json(board, parent_id or ""))
        self._parent.add_files(RUNS)

    def _identity_of(self, run: RankedRun) -> str:
        return run_identity(self._parent.identity, run.result.index)

    def _ranked_run(self, result: RunResult) -> RankedRun:
        state = DeliveryState(self._run_folder(result) / FILE_NAME, self._tracking_uri)
        return RankedRun(self._parent.folder.name, result, state.run_id or "", state.experiment_id, self._goal)

    def _run_folder(self, result: RunResult) -> Path:
        return self._parent.folder / result.name


def _as_it_stands(result: RunResult) -> RunResult:
    if result.status != "PAUSED":
        return result
    return replace(result, status="FINISHED", stopped_early=f"so far, after {plural('epoch', len(result.epochs))}")
