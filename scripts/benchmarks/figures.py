"""What is measured, as plain values."""

import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bench:
    """How the rows are measured, and every single measurement so far."""

    repeats: int
    quick: bool
    """Whether to do as little as shows that the bench works; the figures then say nothing."""
    data_dir: str
    measurements: list[dict[str, Any]] = field(default_factory=list)

    @property
    def short_repeats(self) -> int:
        """How often to measure what takes a second or two."""
        return 2 * self.repeats + 1

    def note(self, name: str, number: int, **values: Any) -> None:
        """Keep a measurement, and show it at once."""
        self.measurements.append({"measured": name, "round": number, **values})
        shown = "  ".join(f"{key} {value:.3f}" for key, value in values.items() if isinstance(value, float))
        print(f"{name} {number}: {shown}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    values: tuple[float, ...]
    """One for each repetition."""
    unit: str
    limit: float | None = None
    """What the median must not exceed, or must reach if it should be `at_least` that."""
    at_least: bool = False
    aim: float | None = None
    """What is hoped for beyond the limit."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty where there is none."""
        if self.limit is None:
            return ""
        is_met = self.median >= self.limit if self.at_least else self.median <= self.limit
        return "ok" if is_met else "missed"

    @property
    def target(self) -> str:
        """The target in words."""
        if self.limit is None:
            return ""
        aim = f" (aim {self._number(self.aim)})" if self.aim is not None else ""
        return f"{'≥' if self.at_least else '≤'} {self._number(self.limit)}{aim}"

    def cells(self) -> tuple[str, ...]:
        """Return what stands in the table, in the order of HEADINGS."""
        spread = f"{self._number(min(self.values))}..{self._number(max(self.values))}" if len(self.values) > 1 else ""
        return self.row, self.what, self._number(self.median), spread, self.unit, self.target, self.verdict

    def _number(self, value: float) -> str:
        return f"{value:.{1 if self.unit == 'MB' else 2 if abs(value) >= 0.1 else 3}f}"


HEADINGS = ("row", "what", "median", "min..max", "unit", "target", "")


def table(lines: Iterable[Line]) -> str:
    """Return the lines as a table in Markdown whose columns are aligned."""
    rows = [HEADINGS, *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join([f"| {texts[0]} |", f"|-{rule}-|", *(f"| {text} |" for text in texts[1:])])
