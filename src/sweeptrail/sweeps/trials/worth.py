"""What a run is worth, by what ranks."""

import math
from collections.abc import Mapping, Sequence

from sweeptrail.errors import UsageError
from sweeptrail.records import Goal, RunResult
from sweeptrail.results.leaderboard import DEFAULT_GOALS, total
from sweeptrail.search.rungs import Rank


class Worth:
    """Measures runs by the goal, which the first of them tells where nobody has said it."""

    def __init__(self, goal: Goal | None) -> None:
        self._goal = goal
        self._is_seen = False

    def at(self, level: int, metrics: Mapping[str, float], run: str) -> Rank:
        """Return what sorts what a run has reached after so many epochs. Raises UsageError if that is not logged."""
        goal = self._among(metrics)
        if goal.metric not in metrics:
            raise UsageError(
                f"stop: epoch {level} of {run} has no {goal.metric}, by which runs are compared; "
                f"write manager.log({goal.metric}=...) inside the loop, or leave out stop=asha"
            )
        return goal.rank(metrics[goal.metric])

    def mean(self, results: Sequence[RunResult]) -> float:
        """Return the mean of the final values of runs, the smaller the better; nan if one has none."""
        ranks = [self._among(each.finals).rank(each.finals.get(self._metric, math.nan)) for each in results]
        return math.nan if any(is_nan for is_nan, _ in ranks) else total([value for _, value in ranks]) / len(ranks)

    def expect(self, result: RunResult) -> None:
        """Raise UsageError for the first run that has finished, if it has not logged the goal."""
        if self._is_seen or result.status != "FINISHED":
            return
        goal = self._among(result.finals)
        if goal.metric not in result.finals:
            raise UsageError(
                f"goal: {result.name} has logged no {goal.metric}, which says what is near to the best; "
                f"write manager.log({goal.metric}=...), or another goal"
            )
        self._is_seen = True

    @property
    def _metric(self) -> str:
        return self._goal.metric if self._goal else ""

    def _among(self, metrics: Mapping[str, float]) -> Goal:
        self._goal = self._goal or next((goal for goal in DEFAULT_GOALS if goal.metric in metrics), None)
        if not self._goal:
            logged = [name for name in metrics if not name.endswith("_duration")]
            raise UsageError(
                f"goal: nothing says which of {', '.join(logged) or 'no metrics'} is to become better; "
                f"write goal=max:{(logged or ['validation_accuracy'])[0]}"
            )
        return self._goal
