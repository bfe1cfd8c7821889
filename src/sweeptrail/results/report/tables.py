"""The numbers behind the plots, as tables of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeptrail.results import words
from sweeptrail.results.columns import curve_metrics, final_names, param_column
from sweeptrail.results.leaderboard import Leaderboard, mean_of, seconds, total
from sweeptrail.results.leaderboard import Row as Combination
from sweeptrail.results.report import facts
from sweeptrail.results.words import in_words, why_unranked

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of text; what is a number stands to the right."""

    columns: Sequence[str]
    rows: Sequence[Row]
    texts: int = 1
    """How many of the columns, from the left, are no numbers."""


def number(value: float | None, beside: float | None = None) -> str:
    """Return a number as the tables show it; `beside` as for those in words."""
    return facts.NOTHING if value is None or math.isnan(value) else words.number(value, beside)


def between(interval: tuple[float, float] | None) -> str:
    """Return an interval in words."""
    return f"{number(interval[0])} to {number(interval[1])}" if interval else facts.NOTHING


def ranking(board: Leaderboard) -> Table:
    """Return the combinations, the best first."""
    columns = facts.columns_of(board)
    spread = ["95 % interval", "deviation", "seeds"] if has_seeds(board) else []
    shown = dict.fromkeys([*final_names(board), *reversed(curve_metrics(board))])
    metrics = [name for name in shown if name != board.ranking]
    took = {row.rank: _seconds(row) for row in board.rows}
    timed, is_stopping = any(took.values()), any(facts.is_stopped(row) for row in board.rows)
    rows = [
        [
            str(row.rank),
            *(facts.text_of(facts.value_of(row, column)) for column in columns),
            number(row.mean),
            *([between(row.interval), number(row.deviation, row.mean), str(len(row.runs))] if spread else []),
            *(number(mean_of(row, metric)) for metric in metrics),
            *([took[row.rank]] if timed else []),
            *([row.runs[0].result.stopped_early] if is_stopping else []),
        ]
        for row in board.rows
    ]
    heads = ["rank", *(column if column == facts.SWEEP else param_column(column) for column in columns)]
    names = [*heads, in_words(board.ranking), *spread, *map(in_words, metrics), *(["seconds"] if timed else [])]
    return Table([*names, *(["stopped early"] if is_stopping else [])], rows, texts=1 + len(columns))


def _seconds(row: Combination) -> str:
    """Return how long the runs of a combination took on average; nothing where nobody has counted it."""
    known = [took for run in row.runs if (took := seconds(run.result)) is not None]
    return f"{total(known) / len(known):.1f}" if known else ""


def has_seeds(board: Leaderboard) -> bool:
    """Return whether some combination was carried out with several seeds."""
    return any(len(row.runs) > 1 for row in board.rows)


def unfinished(board: Leaderboard) -> Table:
    """Return the runs that are not ranked, and why."""
    reasons = [facts.text_of(why_unranked(run, board))[:300] for run in board.unranked]
    rows = [
        [facts.text_of(run.result.name), run.result.status, *([reason] if any(reasons) else [])]
        for run, reason in zip(board.unranked, reasons, strict=True)
    ]
    return Table(["run", "status", *(["reason"] if any(reasons) else [])], rows, texts=3)


def curves(board: Leaderboard) -> Table:
    """Return every epoch of the highlighted combinations."""
    metrics = curve_metrics(board)
    rows = [
        [facts.text_of(run.result.name), str(epoch.epoch), *(number(epoch.metrics.get(name)) for name in metrics)]
        for row in facts.highlighted(board)
        for run in row.runs
        for epoch in run.result.epochs
    ]
    return Table(["run", "epoch", *map(in_words, metrics)], rows)


def effects(board: Leaderboard) -> Table:
    """Return the mean of the ranking metric at each value of each hyperparameter."""
    rows = [
        [name, level.value, number(level.mean), between(level.interval), str(level.runs)]
        for name, levels in facts.effects(board).items()
        for level in levels
    ]
    columns = ["hyperparameter", "value", f"mean {in_words(board.ranking)}", "95 % interval", "runs"]
    return Table(columns, rows, texts=2)
