"""Measures things in turns, A B A B, so that whatever slows the machine down slows all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from scripts.benchmarks.figures import Bench, Line


@dataclass(frozen=True)
class Measured:
    """One measurement of one contender."""

    seconds: float
    accuracies: Mapping[str, float] = field(default_factory=dict)
    """For each combination of hyperparameters, that of the last epoch."""


Contender = Callable[[Bench], Measured]


class Comparison(NamedTuple):
    """One contender's seconds divided by another's."""

    what: str
    dividend: str
    divisor: str
    limit: float | None = None
    aim: float | None = None
    at_least: bool = False


def in_turns(contenders: Mapping[str, Contender], rounds: int, bench: Bench) -> dict[str, list[Measured]]:
    """Return what each contender measures in each round, after one that does not count."""
    if not bench.quick:
        for contender in contenders.values():
            contender(replace(bench, quick=True))  # the first of all would read torch from the disk
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, contender in contenders.items():
            measured = contender(bench)
            bench.note(name, number, seconds=measured.seconds, accuracies=measured.accuracies)
            found[name].append(measured)
    return found


def line(row: str, comparison: Comparison, found: Mapping[str, Sequence[Measured]]) -> Line:
    """Return the line of a comparison: one ratio for each round, so that both parts lie close together in time."""
    dividends, divisors = found[comparison.dividend], found[comparison.divisor]
    return Line(
        row,
        comparison.what,
        tuple(above.seconds / below.seconds for above, below in zip(dividends, divisors, strict=True)),
        "x",
        comparison.limit,
        comparison.at_least,
        comparison.aim,
    )


def seconds_line(row: str, name: str, found: Mapping[str, Sequence[Measured]]) -> Line:
    """Return the line of a contender's own seconds."""
    return Line(row, name, tuple(measured.seconds for measured in found[name]), "s")
