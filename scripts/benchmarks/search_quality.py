"""What 40 trials find on functions whose minimum is known: our searches, and Optuna in the same process.

By itself: python -m scripts.benchmarks.search_quality [SEEDS]
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO

import sweeptrail
from scripts.benchmarks.figures import Line, table
from scripts.benchmarks.processes import scratch
from sweeptrail.search.at_random import AtRandom
from sweeptrail.search.ranges import Range
from sweeptrail.search.strategy import Space, Strategy, Trial
from sweeptrail.search.tpe import Tpe
from sweeptrail.training.manager import RunManager

BUDGETS = (10, 20, 40)
SEEDS = 100
"""With five, or 25, chance makes one of two equal searches look better."""

Values = list[float]
"""What each trial of a search has reached, in their order."""


@dataclass(frozen=True)
class Function:
    """Something to be made small."""

    ranges: Mapping[str, Range]
    value: Callable[..., float]
    minimum: float


def branin(x: float, y: float) -> float:
    """Return Branin's function, which has three equal minima."""
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


HEIGHTS = (1.0, 1.2, 3.0, 3.2)
WIDTHS = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann(**point: float) -> float:
    """Return Hartmann's function of six variables."""
    values = list(point.values())
    return -sum(
        height * math.exp(-sum(a * (x - c) ** 2 for a, x, c in zip(width, values, centre, strict=True)))
        for height, width, centre in zip(HEIGHTS, WIDTHS, CENTRES, strict=True)
    )


FUNCTIONS = {
    "Branin": Function({"x": Range(-5.0, 10.0), "y": Range(0.0, 15.0)}, branin, 0.397887),
    "Hartmann 6": Function({f"x{number}": Range(0.0, 1.0) for number in range(1, 7)}, hartmann, -3.32237),
}


def ours(strategy: Callable[[Space, int], Strategy], function: Function, seed: int) -> Values:
    """Search with one of our strategies, by itself."""
    search = strategy(Space(function.ranges, lambda points: [True] * len(points)), seed)
    trials: list[Trial] = []
    for number in range(1, BUDGETS[-1] + 1):
        point = search.suggest(number, trials)
        assert point
        trials.append(Trial(number, point, function.value(**point)))
    return [trial.value for trial in trials if trial.value is not None]


def optunas(function: Function, seed: int) -> Values:
    """Search with Optuna, as its documentation has it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        return function.value(
            **{name: trial.suggest_float(name, each.low, each.high) for name, each in function.ranges.items()}
        )

    study.optimize(objective, n_trials=BUDGETS[-1])
    return [trial.value for trial in study.trials if trial.value is not None]


def valley(manager: RunManager, *, x: float = 0.0, y: float = 0.0) -> None:
    """Have Branin's function as a task."""
    manager.log(loss=branin(x, y))


def swept(function: Function, seed: int) -> Values:
    """Search as a person does, with a sweep on disk."""
    ranges = {name: str(each) for name, each in function.ranges.items()}
    with scratch() as folder, redirect_stdout(StringIO()):
        outcome = sweeptrail.sweep(
            valley,
            ranges,
            search="tpe",
            trials=BUDGETS[-1],
            seed=seed,
            engine="serial",
            goal="min:loss",
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            runs_dir=folder / "runs",
            report=False,
        )
    return [result.finals["loss"] for result in outcome.results]


OURS, OPTUNA = "Bayesian search", "Optuna itself"

CONTENDERS: Mapping[str, Callable[[Function, int], Values]] = {
    OURS: partial(ours, Tpe),
    OPTUNA: optunas,
    "random search": partial(ours, AtRandom),
}


def lines(seeds: int) -> Iterator[Line]:
    """Yield how far above its minimum each search has left each function, a value for each seed."""
    for name, function in FUNCTIONS.items():
        found = {who: [search(function, seed) for seed in range(seeds)] for who, search in CONTENDERS.items()}
        for budget in BUDGETS:
            for who, values in found.items():
                above = tuple(min(own[:budget]) - function.minimum for own in values)
                yield Line("quality", f"{name}, {who}: above the minimum after {budget} trials", above, "")
        better = share_of_wins(*([min(own) for own in found[who]] for who in (OURS, OPTUNA)))
        yield Line(
            "quality", f"{name}: pairs of seeds of which ours finds the better", (better,), "", 0.45, at_least=True
        )


def share_of_wins(first: Values, second: Values) -> float:
    """Return how often, of all pairs, the first has the smaller value; 0.5 where they are alike."""
    wins = [(one < other) + (one == other) / 2 for one in first for other in second]
    return sum(wins) / len(wins)


def main(seeds: int) -> None:
    """Print the table; and whether a sweep on disk chooses what the strategy by itself does."""
    print(table(lines(seeds)))
    function = FUNCTIONS["Branin"]
    alone, whole = ours(Tpe, function, 0), swept(function, 0)
    print(f"a sweep on disk has the same {len(whole)} values: {alone == whole}")


if __name__ == "__main__":
    from scripts.benchmarks import search_quality

    search_quality.main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
