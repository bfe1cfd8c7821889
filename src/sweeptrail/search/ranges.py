"""Ranges of numbers: `16..256`, `0..0.5`, `log:1e-4..1e-1`, `16..256:16`."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

DIGITS = 5
"""Significant digits of a number that is drawn: more would only lengthen the names of runs."""

FORM = re.compile(r"(log:)?\s*([^\s:]+?)\s*\.\.\s*([^\s:]+?)\s*(?::\s*([^\s:]+))?")


@dataclass(frozen=True)
class Range:
    """All numbers, or those of a step, between two that are among them."""

    low: int | float
    high: int | float
    """Greater than `low`, and a whole number like it or not."""
    step: int | float | None = None
    is_log: bool = False
    """Whether each power of ten in it is as likely as another."""

    def __str__(self) -> str:
        low, high, step = (_text(each) for each in (self.low, self.high, self.step or 0))
        return f"{'log:' if self.is_log else ''}{low}..{high}{f':{step}' if self.step else ''}"

    @property
    def is_whole(self) -> bool:
        """Whether it is of whole numbers."""
        return isinstance(self.low, int)

    @property
    def is_finite(self) -> bool:
        """Whether it can be listed."""
        return self.is_whole or self.step is not None

    def __len__(self) -> int:
        """Return how many numbers it has; raises TypeError where they cannot be counted."""
        return round((self.high - self.low) / self._step) + 1

    def __iter__(self) -> Iterator[int | float]:
        """Yield its numbers, the lowest first; raises TypeError where they cannot be listed."""
        return (self.at(position) for position in range(len(self)))

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if not self.is_finite:
            return True
        return math.isclose(self.at(round((value - self.low) / self._step)), value, rel_tol=1e-9)

    def contains(self, other: "Range") -> bool:
        """Tell whether it has all numbers of another, which is of the same kind."""
        same = (self.step, self.is_log, self.is_whole) == (other.step, other.is_log, other.is_whole)
        return same and other.low in self and other.high in self

    def at(self, position: int) -> int | float:
        """Return the number with this position, from 0, as a person would write it."""
        if self.is_whole:
            return int(self.low + position * self._step)
        return float(Decimal(str(self.low)) + position * Decimal(str(self._step)))

    def draw(self, share: float) -> int | float:
        """Return the number below which this share of the range lies; shares are from 0 up to 1, without it."""
        if self.is_log:
            # Whole numbers are the roundings of what lies half of one further on either side (as Optuna has it).
            margin = 0.5 if self.is_whole else 0.0
            low, high = math.log(self.low - margin), math.log(self.high + margin)
            return self.rounded(math.exp(low + share * (high - low)))
        if self.is_finite:
            return self.at(int(share * len(self)))
        return self.rounded(self.low + share * (self.high - self.low))

    def rounded(self, value: float) -> int | float:
        """Return a number of the range that is near to this one and short."""
        if self.is_finite:
            position = round((value - self.low) / self._step)
            return self.at(min(max(position, 0), len(self) - 1))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    @property
    def _step(self) -> int | float:
        if self.step is None and not self.is_whole:
            raise TypeError(f"{self} cannot be listed")
        return self.step or 1


def looks_like_range(text: str) -> bool:
    """Tell whether a text can only be meant as a range."""
    found = FORM.fullmatch(text.strip())
    return found is not None and _is_number(found[2]) and _is_number(found[3])


def read_range(text: str, value: Callable[[str], Any]) -> Range | None:
    """Return the range that a text stands for, its ends read by `value`; None if it looks like none.

    Raises ValueError, whose text says what came and what to write, for one that is none.
    """
    found = FORM.fullmatch(text.strip())
    if not found or not looks_like_range(text):
        return None
    is_log, low_text, high_text, step_text = found.groups()
    low, high = value(low_text), value(high_text)
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (low, high)):
        return None  # a text, or one of a few choices, that looks like a range
    if not math.isfinite(low) or not math.isfinite(high) or low >= high:
        raise ValueError(f"expected a range from a number to a greater one, got {text!r}; write {_cure(low, high)}")
    if is_log and low <= 0:
        raise ValueError(f"expected a range above 0 behind log:, got {text!r}; write log:0.0001..{high_text}")
    if is_log and step_text:
        raise ValueError(f"expected no step behind log:, got {text!r}; write log:{low_text}..{high_text}")
    step = _read_step(text, step_text, low, high) if step_text else None
    return Range(low, high, step, bool(is_log))


def _read_step(text: str, step_text: str, low: float, high: float) -> int | float:
    try:
        step: int | float = int(step_text) if isinstance(low, int) else float(step_text)
    except ValueError:
        step = 0
    if not (math.isfinite(step) and step > 0):
        kind = "a whole number" if isinstance(low, int) else "a number"
        raise ValueError(f"expected {kind} above 0 as the step, got {text!r}; write {_text(low)}..{_text(high)}:1")
    steps = (high - low) / step
    if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
        last = Range(low, high, step).at(max(1, int(steps)))
        raise ValueError(
            f"expected steps that end at {_text(high)}, got {text!r}; write {_text(low)}..{_text(last)}:{step_text}"
        )
    return step


def _cure(low: float, high: float) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "0..1"
    return f"{_text(high)}..{_text(low)}" if low > high else f"{_text(low)} alone"


def _is_number(text: str) -> bool:
    try:
        Decimal(text)
    except InvalidOperation:
        return False
    return True


def _text(value: float) -> str:
    return str(value).removesuffix(".0")
