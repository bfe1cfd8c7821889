"""How much each hyperparameter matters, as Optuna computes it (fANOVA, Hutter et al. 2014)."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from sweeptrail.search import tpe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 10
"""Values of the goal; fewer say nothing."""

MOST = 200
"""More say the same within 3 points, and take a minute where there are 1,000."""

LOG_FROM = 100
"""Only a hyperparameter whose values differ by this factor can be a logarithmic one."""


def importances(points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Return the share of each hyperparameter in how the values differ, the largest first.

    Of more than MOST values that many are taken, evenly from the best to the worst. {} without Optuna or
    scikit-learn, with too few values, or where fewer than two hyperparameters vary.
    """
    known = [pair for pair in zip(points, values, strict=True) if math.isfinite(pair[1])]
    names = [name for name in (points[0] if points else ()) if len({repr(point[name]) for point, _ in known}) > 1]
    if len(known) < FEWEST or len(names) < 2 or len({value for _, value in known}) < 2 or not tpe.is_installed():
        return {}
    known.sort(key=lambda pair: pair[1])
    count = min(MOST, len(known))
    try:
        return _by_optuna(names, [known[position * len(known) // count] for position in range(count)])
    except ImportError:  # scikit-learn
        return {}


def _by_optuna(names: Sequence[str], known: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns = {name: _column([point[name] for point, _ in known]) for name in names}
    distributions = {name: distribution for name, (distribution, _) in columns.items()}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                value=value,
                params={name: numbers[position] for name, (_, numbers) in columns.items()},
                distributions=distributions,
            )
            for position, (_, value) in enumerate(known)
        ]
    )
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def _column(values: Sequence[Any]) -> "tuple[BaseDistribution, list[Any]]":
    """Return a hyperparameter as Optuna knows it, and its values there."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if is_numeric(values):
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=is_logarithmic(values)), [float(value) for value in values]
    texts = [repr(value) for value in values]
    return CategoricalDistribution(sorted(set(texts))), texts


def is_numeric(values: Sequence[Any]) -> bool:
    """Tell whether all are finite numbers."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def is_logarithmic(values: Sequence[float]) -> bool:
    """Tell whether numbers are of such different sizes that rather their logarithms are spread evenly.

    Of a thousand numbers from 0 to 1 the least is below a hundredth too; but half of them are above 0.5.
    """
    low, middle, high = min(values), median(values), max(values)
    if low <= 0 or high / low < LOG_FROM:
        return False
    return abs(math.log(middle / low) / math.log(high / low) - 0.5) < abs((middle - low) / (high - low) - 0.5)
