"""What the report shows, computed from the leaderboard and from the champion's predictions."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeptrail.records import RunResult
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, Row, final_metrics, seconds, spread, sweeps_of
from sweeptrail.search import tpe
from sweeptrail.search.importance import FEWEST, importances, is_logarithmic, is_numeric

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


def fences(values: Iterable[float], *, kept: Iterable[float] = ()) -> tuple[float, float] | None:
    """Return the range without what is far out, three times the interquartile range (Tukey); None without numbers.

    What is `kept` is inside in any case: where most runs have come to nothing, the best are far out.
    """
    finite = np.array([value for value in values if can_be_drawn(value)])
    if not len(finite):
        return None
    low, high = np.quantile(finite, (0.25, 0.75))
    reach = 3 * (high - low)
    inside = finite[(finite >= low - reach) & (finite <= high + reach)]
    chosen = [value for value in kept if can_be_drawn(value)]
    return float(min([inside.min(), *chosen])), float(max([inside.max(), *chosen]))


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
    runs = [run for row in whole(board) or board.rows if value_of(row, column) == value for run in row.runs]
    finite = [reached for run in runs if can_be_drawn(reached := final_metrics(run)[board.ranking])]
    if not finite:
        return None
    mean, _, interval = spread(finite)
    return Level(text_of(value), len(finite), mean, interval)


def is_stopped(row: Row) -> bool:
    """Tell whether a combination was stopped early."""
    return bool(row.runs[0].result.stopped_early)


def whole(board: Leaderboard) -> list[Row]:
    """Return the combinations that were not stopped early."""
    return [row for row in board.rows if not is_stopped(row)]


def highlighted(board: Leaderboard) -> Sequence[Row]:
    """Return the combinations that have a colour: the best that are whole, or the best if none is."""
    return whole(board)[:HIGHLIGHTS] or board.rows[:HIGHLIGHTS]


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

    @property
    def values(self) -> list[float]:
        """Those of the goal."""
        return [value for points in (self.whole, self.stopped) for _, value in points]


def slices(board: Leaderboard) -> dict[str, Slice]:
    """Return the columns that are ranges of numbers."""
    found = {}
    rows = [row for row in board.rows if can_be_drawn(row.mean)]
    for column in varying(board):
        if rows and is_continuous(board, column):
            complete, stopped = (
                [(float(value_of(row, column)), row.mean) for row in rows if is_stopped(row) == wanted]
                for wanted in (False, True)
            )
            found[column] = Slice(complete, stopped, is_logarithmic(levels(board, column)))
    return found


@dataclass(frozen=True)
class Tried:
    """A run in the order in which they were tried."""

    number: int
    minutes: float
    """From the beginning of the first run until this had the value."""
    value: float
    """Of the metric that ranks."""
    is_stopped: bool


def tried(board: Leaderboard) -> list[Tried]:
    """Return the ranked runs by their numbers; [] where they are few, or of several sweeps."""
    runs = [run for row in board.rows for run in row.runs if can_be_drawn(final_metrics(run)[board.ranking])]
    if len(runs) < FEWEST_TRIED or len(sweeps_of(board)) > 1:
        return []
    began = min(_began(run.result) for run in runs)
    found = []
    for run in sorted(runs, key=lambda run: run.result.index):
        value = final_metrics(run)[board.ranking]
        minutes = max(0.0, _reached(run.result) - began) / 60
        found.append(Tried(run.result.index, minutes, value, bool(run.result.stopped_early)))
    return found


def _began(result: RunResult) -> float:
    """Return when a run began; of one that has paused its epochs know it, which MLflow does not keep."""
    first = result.epochs[0] if result.epochs else None
    began = result.time - (seconds(result) or 0.0)
    return min(began, first.time - first.epoch_duration) if first and first.time else began


def _reached(result: RunResult) -> float:
    """Return when a run had its value: what was stopped early is closed long after, when its sweep ends."""
    return (result.stopped_early and result.epochs and result.epochs[-1].time) or result.time


def importance(board: Leaderboard) -> dict[str, float]:
    """Return the share of each hyperparameter in how the whole runs differ, as Optuna computes it."""
    rows = whole(board)
    if not rows:
        return {}
    points = [{column: value_of(row, column) for column in columns_of(board)} for row in rows]
    return importances(points, [row.mean for row in rows])


def lacks_optuna(board: Leaderboard) -> bool:
    """Tell whether a search has enough runs for the importance, and only Optuna is missing."""
    return len(slices(board)) > 0 and len(whole(board)) >= FEWEST and not tpe.is_installed()
