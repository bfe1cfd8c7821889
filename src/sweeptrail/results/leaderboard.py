"""Which combination of hyperparameters is best, by how much, and how sure that is."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeptrail.records import RunResult

CONFIDENCE = 0.95
"""Of the intervals; a difference that chance brings about more rarely than the rest, 5 %, is one."""


@dataclass(frozen=True)
class Entrant:
    """A run that is compared with others."""

    sweep: str
    """The name of its sweep, which is that of the sweep's folder."""
    result: RunResult
    run_id: str = ""
    """Its id on the tracking server; empty while that has not got it."""
    experiment_id: str = ""
    folder: str = ""
    """Where its files are on this machine; empty when they are not."""


@dataclass(frozen=True)
class Place:
    """A combination of hyperparameters and its place, over all its seeds."""

    rank: int
    """From 1."""
    params: Mapping[str, Any]
    """Without the seed."""
    entrants: tuple[Entrant, ...]
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

    ranking: str
    """The metric of the last epoch that ranks: `validation_accuracy`, or `accuracy` where nothing was held out."""
    places: tuple[Place, ...]
    unranked: tuple[Entrant, ...]
    """The runs that did not finish."""

    @property
    def champion(self) -> Entrant | None:
        """The best run of the best combination; None while no run has finished."""
        return self.places[0].entrants[0] if self.places else None


def make_leaderboard(entrants: Iterable[Entrant]) -> Leaderboard:
    """Rank what the runs have reached in their last epoch; nan comes last, ties go by the number of the run.

    A combination has a place in each sweep: what two sweeps differ in need not be among their
    hyperparameters, and a run repeated with the same seed says nothing about chance.
    """
    everyone = list(entrants)
    ranked = [entrant for entrant in everyone if entrant.result.status == "FINISHED" and entrant.result.epochs]
    unranked = [entrant for entrant in everyone if entrant.result.status != "FINISHED" or not entrant.result.epochs]
    validated = all("validation_accuracy" in final_metrics(entrant) for entrant in ranked)
    ranking = "validation_accuracy" if validated and ranked else "accuracy"
    groups: dict[tuple[Any, ...], list[Entrant]] = defaultdict(list)
    for entrant in ranked:
        groups[entrant.sweep, *_without_seed(entrant).items()].append(entrant)
    places = sorted((_place(group, ranking) for group in groups.values()), key=_order)
    ranks = tuple(replace(place, rank=rank) for rank, place in enumerate(places, start=1))
    return Leaderboard(ranking, ranks, tuple(unranked))


def final_metrics(entrant: Entrant) -> Mapping[str, float]:
    """Return the metrics of a run's last epoch, and those that were measured once, at the end."""
    result = entrant.result
    return {**(result.epochs[-1].metrics if result.epochs else {}), **result.metrics}


def mean_of(place: Place, metric: str) -> float | None:
    """Return the mean of a metric over the seeds; None if not every run has it."""
    values = [final_metrics(entrant).get(metric) for entrant in place.entrants]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def verdict(board: Leaderboard) -> str:
    """Say in one sentence by how much the first is ahead of the second; nothing with fewer than two to compare.

    Whether they can be told apart says Welch's t-test, two-sided, at 5 % (B. L. Welch, Biometrika 34, 1947).
    """
    rivals = [place for place in board.places[:2] if not math.isnan(place.mean)]
    if len(rivals) < 2:
        return ""
    first, second = rivals
    ahead = (
        f"{label(first, board)} is {first.mean - second.mean:.4f} ahead of {label(second, board)} "
        f"in {in_words(board.ranking)}"
    )
    if first.deviation is None or second.deviation is None:
        return f"{ahead}; one seed cannot say how sure that is: write seed=0,1,2."
    probability = _welch(first, second)
    can = "can" if probability < 1 - CONFIDENCE else "cannot"
    seeds = " and ".join(dict.fromkeys(str(len(place.entrants)) for place in rivals))
    return f"{ahead}, the mean of {seeds} seeds; they {can} be told apart (Welch's t-test, p = {probability:.2g})."


def label(place: Place, board: Leaderboard) -> str:
    """Return what a combination is called among the others: `lr=0.01, shuffle=True`, and of which of several sweeps."""
    text = ", ".join(f"{name}={value}" for name, value in place.params.items()) or "the only combination"
    return f"{text} of {place.entrants[0].sweep}" if len(sweeps_of(board)) > 1 else text


def sweeps_of(board: Leaderboard) -> list[str]:
    """Return the names of the sweeps that compete."""
    everyone = [*(entrant for place in board.places for entrant in place.entrants), *board.unranked]
    return list(dict.fromkeys(entrant.sweep for entrant in everyone))


def in_words(metric: str) -> str:
    """Return what a person calls a metric."""
    return {"accuracy": "training accuracy", "loss": "training loss"}.get(metric, metric.replace("_", " "))


def rows(board: Leaderboard) -> list[dict[str, Any]]:
    """Return a row for each place: the table in leaderboard.csv. The run is the best one of its combination."""
    names = list(dict.fromkeys(name for place in board.places for name in place.params))
    taken = ("rank", "sweep", "seeds", "test_accuracy", "run", "run_id")  # by columns of our own
    return [
        {
            "rank": place.rank,
            "sweep": place.entrants[0].sweep,
            **{f"param_{name}" if name in taken else name: place.params.get(name) for name in names},
            board.ranking: place.mean,
            f"{board.ranking}_deviation": place.deviation,
            f"{board.ranking}_low": place.interval[0] if place.interval else None,
            f"{board.ranking}_high": place.interval[1] if place.interval else None,
            "seeds": len(place.entrants),
            "test_accuracy": mean_of(place, "test_accuracy"),
            "run": place.entrants[0].result.name,
            "run_id": place.entrants[0].run_id,
        }
        for place in board.places
    ]


def csv_text(board: Leaderboard) -> str:
    """Return the text of leaderboard.csv."""
    table = rows(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["rank"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _without_seed(entrant: Entrant) -> dict[str, Any]:
    return {name: value for name, value in entrant.result.params.items() if name != "seed"}


def _place(group: Sequence[Entrant], ranking: str) -> Place:
    values = {id(entrant): final_metrics(entrant)[ranking] for entrant in group}
    best_first = sorted(group, key=lambda entrant: (*_descending(values[id(entrant)]), entrant.result.index))
    mean = math.fsum(values.values()) / len(values)
    deviation = interval = None
    if len(values) > 1:
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values.values()) / (len(values) - 1))
        interval = _interval(mean, deviation, len(values))
    return Place(0, _without_seed(group[0]), tuple(best_first), mean, deviation, interval)


def _order(place: Place) -> tuple[bool, float, str, int]:
    first = min(place.entrants, key=lambda entrant: entrant.result.index)
    return (*_descending(place.mean), first.sweep, first.result.index)


def _descending(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, -value)


def _interval(mean: float, deviation: float, count: int) -> tuple[float, float]:
    from scipy.special import stdtrit  # 0.3 s

    margin = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean - margin, mean + margin


def _welch(first: Place, second: Place) -> float:
    """Return how probable a difference at least as large is by chance alone."""
    from scipy.special import stdtr  # 0.3 s

    errors = [(place.deviation or 0.0) ** 2 / len(place.entrants) for place in (first, second)]
    error = math.fsum(errors)
    if not error:
        return float(first.mean == second.mean)
    freedom = error**2 / math.fsum(
        part**2 / (len(place.entrants) - 1) for part, place in zip(errors, (first, second), strict=True)
    )
    return 2 * float(stdtr(freedom, -abs(first.mean - second.mean) / math.sqrt(error)))
