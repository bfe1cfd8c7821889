"""Which combination of hyperparameters is best."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar

from sweeptrail.errors import SettingsError
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
    """95 % confidence interval of the mean (Student's t); None for a single seed, and where it has no bounds."""


@dataclass(frozen=True)
class Leaderboard:
    """All combinations, the best first."""

    ranked_by: Goal | None
    """What ranks; None where nobody has said it and it cannot be told from the metrics: then there are no rows."""
    rows: tuple[Row, ...]
    unranked: tuple[RankedRun, ...]
    """The runs that did not finish, or have no value of the metric that ranks."""

    @property
    def goal(self) -> Goal:
        """What ranks, of a board that has rows."""
        assert self.ranked_by, "there are no rows without a goal"
        return self.ranked_by

    @property
    def ranking(self) -> str:
        """The metric that ranks, by its final value; empty where there is none."""
        return self.ranked_by.metric if self.ranked_by else ""

    @property
    def champion(self) -> RankedRun | None:
        """The best run of the best combination; None while nothing is ranked, or by nan alone."""
        return self.rows[0].runs[0] if self.rows and not math.isnan(self.rows[0].mean) else None


DEFAULT_GOALS = (
    Goal("validation_accuracy"),
    Goal("accuracy"),
    Goal("validation_loss", greater_is_better=False),
    Goal("loss", greater_is_better=False),
)
"""What ranks where nobody has said it: the first that all runs have."""


def make_leaderboard(runs: Iterable[RankedRun], goal: Goal | None = None) -> Leaderboard:
    """Rank what the runs have reached, by this goal or else by their own; nan comes last, ties go by the run's number.

    Those that were stopped early come after those that were taken further. A run without the goal's metric is
    not ranked. A combination has a row for each sweep: what two sweeps
    differ in need not be among their hyperparameters, and a run repeated with the same seed says nothing
    about chance. Raises SettingsError when no goal is given and the sweeps have different ones.
    """
    everyone = list(runs)
    finished = [run for run in everyone if run.result.status == "FINISHED" and final_metrics(run)]
    goal = goal or common_goal(everyone) or default_goal(finished)
    groups: dict[tuple[Any, ...], list[RankedRun]] = defaultdict(list)
    for run in finished:
        if goal and goal.metric in final_metrics(run):
            groups[run.sweep, *_without_seed(run).items()].append(run)
    ranked = {id(run) for group in groups.values() for run in group}
    unranked = tuple(run for run in everyone if id(run) not in ranked)
    board = Leaderboard(goal, (), unranked)
    ordered = sorted((_row(group, board.goal) for group in groups.values()), key=lambda row: _order(row, board.goal))
    return replace(board, rows=tuple(replace(row, rank=rank) for rank, row in enumerate(ordered, start=1)))


def common_goal(runs: Iterable[RankedRun]) -> Goal | None:
    """Return the goal of the sweeps that have one; raises SettingsError where they differ."""
    sweeps = {run.goal: run.sweep for run in reversed(list(runs)) if run.goal}
    if len(sweeps) > 1:
        found = " and ".join(f"{goal} ({sweep})" for goal, sweep in reversed(sweeps.items()))
        raise SettingsError(
            f"goal: expected sweeps that have the same, got {found}; write --goal {next(reversed(sweeps))}, say"
        )
    return next(iter(sweeps), None)


def default_goal(finished: Sequence[RankedRun]) -> Goal | None:
    """Return what ranks runs of which nobody has said it; None if not every run has one of the usual metrics."""
    known = [final_metrics(run) for run in finished]
    return next((goal for goal in DEFAULT_GOALS if known and all(goal.metric in metrics for metrics in known)), None)


def final_metrics(run: RankedRun) -> Mapping[str, float]:
    """Return what a run has reached."""
    return run.result.finals


def mean_of(row: Row, metric: str) -> float | None:
    """Return the mean of a metric over the seeds; None if not every run has it."""
    values = [final_metrics(run).get(metric) for run in row.runs]
    known = [value for value in values if value is not None]
    return total(known) / len(known) if known and len(known) == len(values) else None


def seconds(result: RunResult) -> float | None:
    """Return how long a run took, over all its sittings if it has epochs; None where nobody has counted."""
    duration = result.epochs[-1].run_duration if result.epochs else math.nan
    return result.duration if math.isnan(duration) else duration


def best_of(board: Leaderboard, candidates: Iterable[T], value_of: Callable[[T], float]) -> T:
    """Return that with the best value of the metric that ranks."""
    return min(candidates, key=lambda candidate: board.goal.rank(value_of(candidate)))


def running_best(goal: Goal, values: Iterable[float]) -> list[float]:
    """Return the best value up to each of these."""

    def better(best: float, value: float) -> float:
        return min(best, value, key=goal.rank)

    return list(accumulate(values, better))


def sweeps_of(board: Leaderboard) -> list[str]:
    """Return the names of the sweeps that compete."""
    return list(dict.fromkeys(run.sweep for run in all_runs(board)))


def all_runs(board: Leaderboard) -> list[RankedRun]:
    """Return every run, those of the best combination first."""
    return [*(run for row in board.rows for run in row.runs), *board.unranked]


def _without_seed(run: RankedRun) -> dict[str, Any]:
    return {name: value for name, value in run.result.params.items() if name != "seed"}


def _row(group: Sequence[RankedRun], goal: Goal) -> Row:
    values = {id(run): final_metrics(run)[goal.metric] for run in group}
    best_first = sorted(group, key=lambda run: (*goal.rank(values[id(run)]), run.result.index))
    mean, deviation, interval = spread(list(values.values()))
    return Row(0, _without_seed(group[0]), tuple(best_first), mean, deviation, interval)


def _order(row: Row, goal: Goal) -> tuple[float, bool, float, str, int]:
    first = min(row.runs, key=lambda run: run.result.index)
    return (-taken_to(first.result), *goal.rank(row.mean), first.sweep, first.result.index)


def taken_to(result: RunResult) -> float:
    """Return after how many epochs a run was stopped early; infinity for one that is whole."""
    return result.epochs[-1].epoch if result.stopped_early and result.epochs else math.inf


def spread(values: Sequence[float]) -> tuple[float, float | None, tuple[float, float] | None]:
    """Return the mean of some values, their standard deviation, and the 95 % interval of the mean (Student's t).

    A single value has a mean alone; infinite values have no interval.
    """
    mean, count = total(values) / len(values), len(values)
    if count == 1:
        return mean, None, None
    from scipy.special import stdtrit  # 0.3 s

    deviation = math.sqrt(total([(value - mean) * (value - mean) for value in values]) / (count - 1))
    margin = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean, deviation, (mean - margin, mean + margin) if math.isfinite(margin) else None


def total(values: Sequence[float]) -> float:
    """Return the sum of some values, exactly rounded where they are finite."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):  # both infinities, or more than a float holds
        return sum(values)
