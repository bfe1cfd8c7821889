"""Which combination of hyperparameters is best, by how much, and how sure that is."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sweeptrail.records import Goal, RunResult

T = TypeVar("T")

CONFIDENCE = 0.95
"""Of the intervals; a difference that chance brings about more rarely than the rest, 5 %, is one."""


@dataclass(frozen=True)
class RankedRun:
    """A run that is compared with others."""

    sweep: str
    """The name of its sweep, which is that of the sweep's folder."""
    result: RunResult
    run_id: str = ""
    """Its id on the tracking server; empty while that has not got it."""
    experiment_id: str = ""
    goal: Goal | None = None
    """What ranks the runs of its sweep; None where nobody has said it."""
    folder: str = ""
    """Where its files are on this machine; empty when they are not."""


@dataclass(frozen=True)
class Row:
    """A combination of hyperparameters and its rank, over all its seeds."""

    rank: int
    """From 1."""
    params: Mapping[str, Any]
    """Without the seed."""
    runs: tuple[RankedRun, ...]
    """Its finished runs, one for each seed, the best first."""
    mean: float
    """Of the metric that ranks, over the seeds."""
    deviation: float | None = None
    """Standard deviation of the sample; None for a single seed."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of the mean (Student's t); None for a single seed."""


@dataclass(frozen=True)
class Leaderboard:
    """All combinations, the best first."""

    goal: Goal
    """What ranks."""
    rows: tuple[Row, ...]
    unranked: tuple[RankedRun, ...]
    """The runs that did not finish."""

    @property
    def ranking(self) -> str:
        """The metric that ranks, by its value after the last epoch or at the end."""
        return self.goal.metric

    @property
    def champion(self) -> RankedRun | None:
        """The best run of the best combination; None while no run has finished."""
        return self.rows[0].runs[0] if self.rows else None


DEFAULT_GOALS = (
    Goal("validation_accuracy"),
    Goal("accuracy"),
    Goal("validation_loss", greater_is_better=False),
    Goal("loss", greater_is_better=False),
)
"""What ranks where nobody has said it: the first that all runs have."""


def make_leaderboard(runs: Iterable[RankedRun]) -> Leaderboard:
    """Rank what the runs have reached in their last epoch; nan comes last, ties go by the number of the run.

    A run without the goal's metric is not ranked. A combination has a row for each sweep: what two sweeps
    differ in need not be among their hyperparameters, and a run repeated with the same seed says nothing
    about chance.
    """
    everyone = list(runs)
    finished = [run for run in everyone if run.result.status == "FINISHED" and final_metrics(run)]
    goal = common_goal(run.goal for run in everyone) or default_goal(finished)
    groups: dict[tuple[Any, ...], list[RankedRun]] = defaultdict(list)
    for run in finished:
        if goal.metric in final_metrics(run):
            groups[run.sweep, *_without_seed(run).items()].append(run)
    ranked = {id(run) for group in groups.values() for run in group}
    unranked = tuple(run for run in everyone if id(run) not in ranked)
    ordered = sorted((_row(group, goal) for group in groups.values()), key=lambda row: _order(row, goal))
    rows = tuple(replace(row, rank=rank) for rank, row in enumerate(ordered, start=1))
    return Leaderboard(goal, rows, unranked)


def default_goal(finished: Sequence[RankedRun]) -> Goal:
    """Return what ranks runs of which nobody has said it."""
    known = [set(final_metrics(run)) for run in finished]
    return next(
        (goal for goal in DEFAULT_GOALS if known and all(goal.metric in names for names in known)), Goal("accuracy")
    )


def common_goal(goals: Iterable[Goal | None]) -> Goal | None:
    """Return the goal that all sweeps have; None where they differ."""
    different = set(goals)
    return different.pop() if len(different) == 1 else None


def final_metrics(run: RankedRun) -> Mapping[str, float]:
    """Return what a run has reached."""
    return run.result.finals


def mean_of(row: Row, metric: str) -> float | None:
    """Return the mean of a metric over the seeds; None if not every run has it."""
    values = [final_metrics(run).get(metric) for run in row.runs]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def curve_metrics(board: Leaderboard, *, most: int = 3) -> list[str]:
    """Return which metrics of the epochs are shown: that which ranks, and the first of the others."""
    epochs = (epoch for run in all_runs(board) for epoch in run.result.epochs)
    names = _telling(name for epoch in epochs for name in epoch.metrics if not name.endswith("_duration"))
    shown = sorted(names, key=lambda name: name != board.ranking)[:most]
    return [name for name in names if name in shown]


def final_names(board: Leaderboard) -> list[str]:
    """Return which of the metrics that were measured once, at the end, are shown beside that which ranks."""
    names = _telling(name for row in board.rows for run in row.runs for name in run.result.metrics)
    return [name for name in names if name != board.ranking]


def _telling(names: Iterable[str]) -> list[str]:
    """Return each name once; no `test_loss` where `test_accuracy` says the same so that a person understands it."""
    found = list(dict.fromkeys(names))
    prefixes = {name.rpartition("_")[0] for name in found if not name.endswith("_loss")}
    return [name for name in found if not name.endswith("_loss") or name.removesuffix("_loss") not in prefixes]


def best_of(board: Leaderboard, candidates: Iterable[T], value_of: Callable[[T], float]) -> T:
    """Return that with the best value of the metric that ranks."""
    return min(candidates, key=lambda candidate: board.goal.rank(value_of(candidate)))


def verdict(board: Leaderboard) -> str:
    """Say in one sentence by how much the first is ahead of the second; nothing with fewer than two to compare.

    Whether they can be told apart says Welch's t-test, two-sided, at 5 % (B. L. Welch, Biometrika 34, 1947).
    """
    rivals = [row for row in board.rows[:2] if not math.isnan(row.mean)]
    if len(rivals) < 2:
        return ""
    first, second = rivals
    ahead = (
        f"{label(first, board)} is {abs(first.mean - second.mean):.4f} ahead of {label(second, board)} "
        f"in {in_words(board.ranking)}"
    )
    if first.deviation is None or second.deviation is None:
        return f"{ahead}; one seed cannot say how sure that is: write seed=0,1,2."
    probability = _welch(first, second)
    can = "can" if probability < 1 - CONFIDENCE else "cannot"
    seeds = " and ".join(dict.fromkeys(str(len(row.runs)) for row in rivals))
    return f"{ahead}, the mean of {seeds} seeds; they {can} be told apart (Welch's t-test, p = {probability:.2g})."


def label(row: Row, board: Leaderboard) -> str:
    """Return what a combination is called among the others: `lr=0.01, shuffle=True`, and of which of several sweeps."""
    text = ", ".join(f"{name}={value}" for name, value in row.params.items()) or "the only combination"
    return f"{text} of {row.runs[0].sweep}" if len(sweeps_of(board)) > 1 else text


def sweeps_of(board: Leaderboard) -> list[str]:
    """Return the names of the sweeps that compete."""
    return list(dict.fromkeys(run.sweep for run in all_runs(board)))


def all_runs(board: Leaderboard) -> list[RankedRun]:
    """Return every run, those of the best combination first."""
    return [*(run for row in board.rows for run in row.runs), *board.unranked]


def in_words(metric: str) -> str:
    """Return what a person calls a metric."""
    return {"accuracy": "training accuracy", "loss": "training loss"}.get(metric, metric.replace("_", " "))


def table_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """Return the table in leaderboard.csv, a line for each combination. The run is the best one of its combination."""
    names = list(dict.fromkeys(name for row in board.rows for name in row.params))
    finals = final_names(board)
    taken = ("rank", "sweep", "seeds", *finals, "run", "run_id")  # by columns of our own
    return [
        {
            "rank": row.rank,
            "sweep": row.runs[0].sweep,
            **{f"param_{name}" if name in taken else name: row.params.get(name) for name in names},
            board.ranking: row.mean,
            f"{board.ranking}_deviation": row.deviation,
            f"{board.ranking}_low": row.interval[0] if row.interval else None,
            f"{board.ranking}_high": row.interval[1] if row.interval else None,
            "seeds": len(row.runs),
            **{name: mean_of(row, name) for name in finals},
            "run": row.runs[0].result.name,
            "run_id": row.runs[0].run_id,
        }
        for row in board.rows
    ]


def csv_text(board: Leaderboard) -> str:
    """Return the text of leaderboard.csv."""
    table = table_rows(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["rank"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _without_seed(run: RankedRun) -> dict[str, Any]:
    return {name: value for name, value in run.result.params.items() if name != "seed"}


def _row(group: Sequence[RankedRun], goal: Goal) -> Row:
    values = {id(run): final_metrics(run)[goal.metric] for run in group}
    best_first = sorted(group, key=lambda run: (*goal.rank(values[id(run)]), run.result.index))
    mean, deviation, interval = spread(list(values.values()))
    return Row(0, _without_seed(group[0]), tuple(best_first), mean, deviation, interval)


def _order(row: Row, goal: Goal) -> tuple[bool, float, str, int]:
    first = min(row.runs, key=lambda run: run.result.index)
    return (*goal.rank(row.mean), first.sweep, first.result.index)


def spread(values: Sequence[float]) -> tuple[float, float | None, tuple[float, float] | None]:
    """Return the mean of some values, their standard deviation, and the 95 % interval of the mean (Student's t).

    A single value has a mean alone.
    """
    mean, count = math.fsum(values) / len(values), len(values)
    if count == 1:
        return mean, None, None
    from scipy.special import stdtrit  # 0.3 s

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    margin = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean, deviation, (mean - margin, mean + margin)


def _welch(first: Row, second: Row) -> float:
    """Return how probable a difference at least as large is by chance alone."""
    from scipy.special import stdtr  # 0.3 s

    errors = [(row.deviation or 0.0) ** 2 / len(row.runs) for row in (first, second)]
    error = math.fsum(errors)
    if not error:
        return float(first.mean == second.mean)
    freedom = error**2 / math.fsum(
        part**2 / (len(row.runs) - 1) for part, row in zip(errors, (first, second), strict=True)
    )
    return 2 * float(stdtr(freedom, -abs(first.mean - second.mean) / math.sqrt(error)))
