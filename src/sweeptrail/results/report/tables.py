"""The numbers behind the plots, as tables of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeptrail.results.leaderboard import Leaderboard, curve_metrics, final_names, in_words, mean_of
from sweeptrail.results.report import facts

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of text; what is a number stands to the right."""

    columns: Sequence[str]
    rows: Sequence[Row]
    texts: int = 1
    """How many of the columns, from the left, are no numbers."""


def number(value: float | None) -> str:
    """Return a number with four digits after the point, as the tables show it."""
    return facts.NOTHING if value is None or math.isnan(value) else f"{value:.4f}"


def between(interval: tuple[float, float] | None) -> str:
    """Return an interval in words."""
    return f"{number(interval[0])} to {number(interval[1])}" if interval else facts.NOTHING


def ranking(board: Leaderboard) -> Table:
    """Return the combinations, the best first."""
    columns = facts.columns_of(board)
    spread = ["95 % interval", "deviation", "seeds"] if has_seeds(board) else []
    metrics = [*final_names(board), *(name for name in reversed(curve_metrics(board)) if name != board.ranking)]
    rows = [
        [
            str(row.rank),
            *(facts.text_of(facts.value_of(row, column)) for column in columns),
            number(row.mean),
            *([between(row.interval), number(row.deviation), str(len(row.runs))] if spread else []),
            *(number(mean_of(row, metric)) for metric in metrics),
            f"{mean_of(row, 'run_duration'):.1f}",
        ]
        for row in board.rows
    ]
    names = ["rank", *columns, in_words(board.ranking), *spread, *map(in_words, metrics), "seconds"]
    return Table(names, rows, texts=1 + len(columns))


def has_seeds(board: Leaderboard) -> bool:
    """Return whether some combination was carried out with several seeds."""
    return any(len(row.runs) > 1 for row in board.rows)


def unfinished(board: Leaderboard) -> Table:
    """Return the runs that are not ranked, and why."""
    rows = [
        [facts.text_of(run.result.name), run.result.status, facts.text_of(run.result.reason)[:300]]
        for run in board.unranked
    ]
    return Table(["run", "status", "reason"], rows, texts=3)


def curves(board: Leaderboard) -> Table:
    """Return every epoch of the highlighted combinations."""
    metrics = curve_metrics(board)
    rows = [
        [facts.text_of(run.result.name), str(epoch.epoch), *(number(epoch.metrics.get(name)) for name in metrics)]
        for row in board.rows[: facts.HIGHLIGHTS]
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
