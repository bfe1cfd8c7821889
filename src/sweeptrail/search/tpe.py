"""Bayesian search by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""

import hashlib
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sweeptrail.search.at_random import AtRandom
from sweeptrail.search.ranges import Range
from sweeptrail.search.strategy import Choices, Point, Space, Trial, identity

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

ATTEMPTS = 4
"""How often Optuna is asked for a combination that is valid and new, before one is drawn."""

SOME_TIME = datetime.fromtimestamp(0, UTC)
"""Optuna wants to know when a trial was carried out, and makes nothing of it."""


@dataclass(frozen=True)
class Tpe:
    """Chooses near what was good before.

    For each question a study is made of all that is known: one that lived on would not answer the
    same after a restart.
    """

    space: Space
    seed: int

    def suggest(self, number: int, trials: Sequence[Trial]) -> Point | None:
        import optuna

        distributions = {name: _distribution(choices) for name, choices in self.space.choices.items()}
        known = [_frozen(trial, distributions, self.space) for trial in trials]
        tried = {trial.identity for trial in trials}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for attempt in range(ATTEMPTS):
            sampler = optuna.samplers.TPESampler(seed=_seed(self.seed, number, attempt), constant_liar=True)
            study = optuna.create_study(sampler=sampler)
            study.add_trials(known)
            asked = study.ask(distributions)
            point = {name: _value(choices, asked.params[name]) for name, choices in self.space.choices.items()}
            if identity(point) not in tried and all(self.space.are_valid([point])):
                return point
        return AtRandom(self.space, self.seed).suggest(number, trials)


def is_installed() -> bool:
    """Tell whether there is Optuna."""
    return find_spec("optuna") is not None


def _seed(seed: int, number: int, attempt: int) -> int:
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _value(choices: Choices, value: Any) -> Any:
    return choices.rounded(value) if isinstance(choices, Range) else choices[value]


def _distribution(choices: Choices) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(choices, Range):
        return CategoricalDistribution(range(len(choices)))
    if choices.is_whole:
        return IntDistribution(int(choices.low), int(choices.high), log=choices.is_log, step=int(choices.step or 1))
    return FloatDistribution(choices.low, choices.high, log=choices.is_log, step=choices.step)


def _frozen(trial: Trial, distributions: "dict[str, BaseDistribution]", space: Space) -> "FrozenTrial":
    """Return a trial as Optuna knows it; one that has not been taken further is what is pruned there."""
    from optuna.trial import TrialState

    state, value = TrialState.COMPLETE, trial.value
    if trial.is_open:
        state = TrialState.RUNNING
    elif trial.has_failed or (value is not None and math.isnan(value)):
        state, value = TrialState.FAIL, None
    elif value is None:
        state = TrialState.PRUNED
    params = {
        name: trial.params[name] if isinstance(choices, Range) else choices.index(trial.params[name])
        for name, choices in space.choices.items()
    }
    return _known_class()(
        number=-1,  # of itself the study numbers them
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=SOME_TIME,
        datetime_complete=SOME_TIME if state.is_finished() else None,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=dict(trial.reached),
    )


@cache
def _known_class() -> "type[FrozenTrial]":
    """Return what a study takes up at once: it copies each trial deeply, which was most of what a question took."""
    from optuna.trial import FrozenTrial

    class Known(FrozenTrial):
        def __deepcopy__(self, memo: object) -> "Known":
            return copy(self)

    return Known
