"""Random search (Bergstra and Bengio 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sweeptrail.search.ranges import Range
from sweeptrail.search.strategy import Choices, Point, Space, Trial, identity

DRAWS = 100
"""How many combinations are drawn at a time, of which the first is taken that is valid and new."""


@dataclass(frozen=True)
class AtRandom:
    """Draws each value by itself, all as likely as each other."""

    space: Space
    seed: int

    def suggest(self, number: int, trials: Sequence[Trial]) -> Point | None:
        random = Random(f"{self.seed}/{number}")
        tried = {trial.identity for trial in trials}
        drawn = [{name: _draw(choices, random) for name, choices in self.space.choices.items()} for _ in range(DRAWS)]
        new = [point for point in drawn if identity(point) not in tried]
        for point, is_valid in zip(new, self.space.are_valid(new), strict=True):
            if is_valid:
                return point
        left = self.space.untried(trials)
        return random.choice(left) if left else None


def _draw(choices: Choices, random: Random) -> Any:
    return choices.draw(random.random()) if isinstance(choices, Range) else random.choice(choices)
