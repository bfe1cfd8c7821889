"""What is tried next, and what is known by then; the choosing has no state of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, Protocol

from sweeptrail.search.ranges import Range

Choices = Sequence[Any] | Range
"""What a hyperparameter may be."""

Point = Mapping[str, Any]
"""A combination of hyperparameters."""

LISTED = 10_000
"""A space with more combinations than this is not listed."""


@dataclass(frozen=True)
class Trial:
    """A combination that was decided upon, with all its seeds."""

    number: int
    """From 1."""
    params: Point
    value: float | None = None
    """What it has reached, the smaller the better: the mean over its seeds; None while it is open or has failed."""
    has_failed: bool = False
    reached: Mapping[int, float] = field(default_factory=dict)
    """With early stopping, its value after so many epochs."""

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of it yet."""
        return self.value is None and not self.has_failed and not self.reached

    @cached_property
    def identity(self) -> tuple[tuple[str, Any], ...]:
        """By what its combination is recognised."""
        return identity(self.params)


class Strategy(Protocol):
    """Chooses combinations one after another."""

    def suggest(self, number: int, trials: Sequence[Trial]) -> Point | None:
        """Return the combination of the trial with this number; None when there is none that was not tried.

        The same for the same number and trials, also in another process.
        """


@dataclass(frozen=True)
class Space:
    """What can be tried."""

    choices: Mapping[str, Choices]
    are_valid: Callable[[Sequence[Point]], list[bool]]
    """Tells which combinations are to be tried at all."""

    @property
    def size(self) -> int | None:
        """How many combinations there are, those that are not valid among them; None for without end."""
        if all(is_finite(each) for each in self.choices.values()):
            return prod(len(each) for each in self.choices.values())
        return None

    def points(self) -> list[Point]:
        """Return every valid combination of a space that has an end."""
        found = [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]
        return [point for point, is_valid in zip(found, self.are_valid(found), strict=True) if is_valid]

    def untried(self, trials: Sequence[Trial]) -> list[Point]:
        """Return what is left to be tried; nothing for a space that is too large to be listed."""
        if self.size is None or self.size > LISTED:
            return []
        tried = {trial.identity for trial in trials}
        return [point for point in self.points() if identity(point) not in tried]


def varies(choices: Any) -> bool:
    """Tell whether there is anything to choose."""
    return isinstance(choices, Range) or (isinstance(choices, tuple) and len(choices) > 1)


def single(choices: Any) -> Any:
    """Return what is there where nothing is to be chosen."""
    return choices[0] if isinstance(choices, tuple) else choices


def is_finite(choices: Choices) -> bool:
    """Tell whether choices can be listed."""
    return not isinstance(choices, Range) or choices.is_finite


def identity(point: Point) -> tuple[tuple[str, Any], ...]:
    """Return by what a combination is recognised; 1 and True are not the same."""
    return tuple(sorted((name, repr(value)) for name, value in point.items()))
