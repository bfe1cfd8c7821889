"""What a search costs that chooses its trials one after another, and what it finds."""

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.benchmarks import search_quality
from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import run, scratch

ROWS = {
    "asking": "a question to the Bayesian search, after 100 and after 1,000 trials of 3 hyperparameters",
    "trials": "1,000 trials that do nothing, one after another: random search and Bayesian, tracked and not",
    "quality": "the best of 40 trials on known functions: the Bayesian search, Optuna itself, and random search",
}

KINDS = {
    "random search, not tracked": ("random", "--no-tracking"),
    "random search, tracked on SQLite": ("random", "--tracking"),
    "Bayesian search, not tracked": ("tpe", "--no-tracking"),
}
BAYESIAN = "Bayesian search, not tracked"

QUESTIONS = 20
"""Of so many the median counts."""


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure each kind in a process of its own, so that its memory is its own."""
    count = 100 if bench.quick else 1000
    kinds = KINDS if "trials" in rows else {BAYESIAN: KINDS[BAYESIAN]} if "asking" in rows else {}
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(1, bench.repeats + 1):
        for kind, (search, tracking) in kinds.items():
            found[kind].append(_measured(bench, kind, count + QUESTIONS, number, search, tracking))
    if "asking" in rows:
        for known, limit in ((count // 10, 10.0), (count, 100.0)):
            yield from _asking(known, limit, found[BAYESIAN])
    for kind in kinds if "trials" in rows else ():
        yield from _trials(f"{count:,} empty trials, {kind}", count, found[kind], 1.3 if kind != BAYESIAN else None)
    if "quality" in rows:
        yield from search_quality.lines(2 if bench.quick else search_quality.SEEDS)


def _asking(known: int, limit: float, found: Sequence[dict[str, Any]]) -> Iterator[Line]:
    title = f"a question to the Bayesian search after {known:,} trials"
    whole, computing = (
        tuple(
            statistics.median(
                1000 * (after[kind] - before[kind]) for before, after in own["questions"][known:][:QUESTIONS]
            )
            for own in found
        )
        for kind in (0, 1)
    )
    yield Line("asking", f"{title}, the decision kept on disk", whole, "ms", limit)
    yield Line("asking", f"{title}: of that, computing", computing, "ms")


def _trials(title: str, count: int, found: Sequence[dict[str, Any]], limit: float | None) -> Iterator[Line]:
    tenth = count // 10
    ends = [own["ended"][:count] for own in found]
    each = tuple(1000 * (own[-1][0] - own[0][0]) / (count - 1) for own in ends)
    yield Line("trials", f"{title}: per trial", each, "ms")
    computing = tuple(1000 * (own[-1][1] - own[0][1]) / (count - 1) for own in ends)
    yield Line("trials", f"{title}: per trial, computing", computing, "ms")
    # Computing, as waiting for the disk depends on who else is there.
    slowing = tuple((own[-1][1] - own[-1 - tenth][1]) / (own[tenth][1] - own[0][1]) for own in ends)
    yield Line("trials", f"{title}: last {tenth} ÷ first {tenth}, computing", slowing, "x", limit)
    yield Line("trials", f"{title}: the driver's memory at most", tuple(own["peak"] for own in found), "MB")


def _measured(bench: Bench, kind: str, count: int, number: int, search: str, tracking: str) -> dict[str, Any]:
    with scratch() as folder:
        seconds = run(["-m", "scripts.benchmarks.many_trials", search, str(count), tracking], folder)
        figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    bench.note(kind, number, seconds=seconds, **figures)
    return figures
