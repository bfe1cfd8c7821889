"""What the report shows, computed from the leaderboard and from the champion's predictions."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeptrail.results.leaderboard import Leaderboard, RankedRun, Row, final_metrics, seconds, spread, sweeps_of
from sweeptrail.search.importance import importances, is_logarithmic, is_numeric

HIGHLIGHTS = 5
"""How many of the best combinations have a colour of their own; more could not be told apart."""


SWEEP = "sweep"
"""Several sweeps are compared like the values of one more hyperparameter."""

MANY = 8
"""A hyperparameter with more different numbers than this is shown as a range of them."""

FEWEST_TRIED = 10
"""With fewer runs there is no best so far to be seen."""

NOTHING = "\N{EN DASH}"
"""Stands for a number that is not known."""


def text_of(value: Any) -> str:
    """Return a value as people read it, without characters that XML cannot hold."""
    return NOTHING if value is None else "".join(char if char.isprintable() else " " for char in str(value))


def columns_of(board: Leaderboard) -> list[str]:
    """Return what combinations can differ in: the sweep, where there are several, and the hyperparameters."""
    several = len(sweeps_of(board)) > 1
    return [*([SWEEP] if several else []), *dict.fromkeys(name for row in board.rows for name in row.params)]


def value_of(row: Row, column: str) -> Any:
    """Return what a combination has in a column; None where it has no such hyperparameter."""
    return row.runs[0].sweep if column == SWEEP else row.params.get(column)


def levels(board: Leaderboard, column: str) -> list[Any]:
    """Return the values in a column in their order; None comes last."""
    values = {value_of(row, column) for row in board.rows}
    return sorted(values, key=lambda value: (value is None, isinstance(value, str), value if value is not None else 0))


def varying(board: Leaderboard) -> list[str]:
    """Return the columns that distinguish the combinations, or all where none does."""
    columns = columns_of(board)
    return [column for column in columns if len(levels(board, column)) > 1] or columns


def label(row: Row, columns: Iterable[str]) -> str:
    """Return a combination in words, cut where it is too long for a plot."""
    return shortened(", ".join(f"{column}={text_of(value_of(row, column))}" for column in columns), 110)


def shortened(text: str, longest: int) -> str:
    """Return the text, cut if it has more characters than that."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def joined(runs: Iterable[RankedRun], metric: str, *, most: int = 20_000) -> tuple[list[float], list[float]]:
    """Return epochs and values of all these curves as one line with gaps, of about `most` points at most."""
    curves = [run.result.epochs for run in runs]
    stride = math.ceil(sum(map(len, curves)) / most) or 1
    epochs: list[float] = []
    values: list[float] = []
    for curve in curves:
        kept = [*curve[:-1:stride], *curve[-1:]]
        epochs += [*(epoch.epoch for epoch in kept), math.nan]
        reached = (epoch.metrics.get(metric, math.nan) for epoch in kept)
        values += [*(value if can_be_drawn(value) else math.nan for value in reached), math.nan]
    return epochs, values


def can_be_drawn(value: float) -> bool:
    """Tell whether a value is a number that plots have room for; MLflow's infinity is 1.8e308."""
    return abs(value) < 1e300


def fences(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the range without what is far out, three times the interquartile range (Tukey); None without numbers."""
    finite = np.array([value for value in values if can_be_drawn(value)])
    if not len(finite):
        return None
    low, high = np.quantile(finite, (0.25, 0.75))
    reach = 3 * (high - low)
    inside = finite[(finite >= low - reach) & (finite <= high + reach)]
    return float(inside.min()), float(inside.max())


@dataclass(frozen=True)
class Level:
    """All runs in which a hyperparameter has the same value."""

    value: str
    runs: int
    mean: float
    interval: tuple[float, float] | None
    """95 % confidence interval of the mean (Student's t); None for a single run."""


def effects(board: Leaderboard) -> dict[str, list[Level]]:
    """Return for each column with several values, but not many, the mean of the ranking metric at each of them."""
    found = {
        column: [level for value in values if value is not None and (level := _level(board, column, value))]
        for column in varying(board)
        if len(values := levels(board, column)) > 1 and not is_continuous(board, column)
    }
    return {column: known for column, known in found.items() if known}


def _level(board: Leaderboard, column: str, value: Any) -> Level | None:
    whole = [row for row in board.rows if not is_stopped(row)] or board.rows
    runs = [run for row in whole if value_of(row, column) == value for run in row.runs]
    finite = [reached for run in runs if can_be_drawn(reached := final_metrics(run)[board.ranking])]
    if not finite:
        return None
    mean, _, interval = spread(finite)
    return Level(text_of(value), len(finite), mean, interval)


def is_stopped(row: Row) -> bool:
    """Tell whether a combination was stopped early."""
    return bool(row.runs[0].result.stopped_early)


def highlighted(board: Leaderboard) -> Sequence[Row]:
    """Return the combinations that have a colour: the best that are whole, or the best if none is."""
    whole = [row for row in board.rows[:HIGHLIGHTS] if not is_stopped(row)]
    return whole or board.rows[:HIGHLIGHTS]


def is_continuous(board: Leaderboard, column: str) -> bool:
    """Tell whether a column is a range of numbers rather than a few values."""
    values = levels(board, column)
    return len(values) > MANY and is_numeric(values)


@dataclass(frozen=True)
class Slice:
    """The value of the goal by that of a hyperparameter."""

    whole: Sequence[tuple[float, float]]
    stopped: Sequence[tuple[float, float]]
    is_log: bool


def slices(board: Leaderboard) -> dict[str, Slice]:
    """Return the columns that are ranges of numbers."""
    found = {}
    rows = [row for row in board.rows if can_be_drawn(row.mean)]
    for column in varying(board):
        if rows and is_continuous(board, column):
            whole, stopped = (
                [(float(value_of(row, column)), row.mean) for row in rows if is_stopped(row) == wanted]
                for wanted in (False, True)
            )
            found[column] = Slice(whole, stopped, is_logarithmic(levels(board, column)))
    return found


@dataclass(frozen=True)
class Tried:
    """A run in the order in which they were tried."""

    number: int
    minutes: float
    """From the beginning of the first run to the end of this."""
    value: float
    """Of the metric that ranks."""
    is_stopped: bool
    rank: tuple[bool, float]


def tried(board: Leaderboard) -> list[Tried]:
    """Return the ranked runs by their numbers; [] where they are few, or of several sweeps."""
    runs = [run for row in board.rows for run in row.runs if can_be_drawn(final_metrics(run)[board.ranking])]
    if len(runs) < FEWEST_TRIED or len(sweeps_of(board)) > 1:
        return []
    began = min(run.result.time - (seconds(run.result) or 0.0) for run in runs)
    found = []
    for run in sorted(runs, key=lambda run: run.result.index):
        value = final_metrics(run)[board.ranking]
        minutes = max(0.0, run.result.time - began) / 60
        found.append(Tried(run.result.index, minutes, value, bool(run.result.stopped_early), board.goal.rank(value)))
    return found


def running_best(runs: Iterable[Tried]) -> list[float]:
    """Return the best value up to each run."""
    best: list[Tried] = []
    for run in runs:
        best.append(min([*best[-1:], run], key=lambda each: each.rank))
    return [each.value for each in best]


def importance(board: Leaderboard) -> dict[str, float]:
    """Return the share of each hyperparameter in how the whole runs differ, as Optuna computes it."""
    rows = [row for row in board.rows if not is_stopped(row)]
    if not rows:
        return {}
    points = [{column: value_of(row, column) for column in columns_of(board)} for row in rows]
    return importances(points, [row.mean for row in rows])
