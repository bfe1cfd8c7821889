"""What a run costs that does nothing, and what the table of many runs costs."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import run, scratch

ROWS = {
    "nothing": "1,000 runs that do nothing: the engine alone, and a whole tracked sweep",
    "steps": "manager.log(step=...) 10,000 times in a run, tracked and not",
    "table": "the table of 10,000 results, three epochs each",
}

KINDS = {"engine": "engine alone", "sweep": "whole sweep on SQLite"}


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure each in a process of its own, so that its memory is its own."""
    if "nothing" in rows:
        yield from _nothing(bench)
    if "steps" in rows:
        yield from _steps(bench)
    if "table" in rows:
        count = 100 if bench.quick else 10_000
        seconds = [_measured(bench, "table", count, number)["seconds"] for number in range(1, bench.repeats + 1)]
        yield Line("table", f"table of {count:,} results, three epochs each", tuple(seconds), "s", 2.0)


def _steps(bench: Bench) -> Iterator[Line]:
    count = 1000 if bench.quick else 10_000
    found = []
    for number in range(1, bench.repeats + 1):
        with scratch() as folder:
            run(["-m", "scripts.benchmarks.steps", str(count)], folder)
            found.append(json.loads((folder / "figures.json").read_text()))
        bench.note(f"steps {count}", number, **found[-1])
    for kind, what in {"tracked": "journal and TensorBoard", "alone": "no sinks"}.items():
        each = tuple(1e6 * own[kind] for own in found)
        yield Line("steps", f"{count:,} calls of manager.log(step=...) with two metrics, {what}: each", each, "µs")


def _nothing(bench: Bench) -> Iterator[Line]:
    count = 100 if bench.quick else 1000
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(1, bench.repeats + 1):
        for kind in KINDS:
            found[kind].append(_measured(bench, kind, count, number))
    for kind, name in KINDS.items():
        yield from _lines(f"{count:,} empty runs, {name}", count, found[kind])


def _lines(title: str, count: int, found: Sequence[dict[str, Any]]) -> Iterator[Line]:
    tenth = count // 10
    each = tuple(1000 * own["ended"][-1] / count for own in found)
    yield Line("nothing", f"{title}: per run, until the last one ended", each, "ms", 15)
    whole = tuple(1000 * own["seconds"] / count for own in found)
    yield Line("nothing", f"{title}: per run, until the command ended", whole, "ms")
    slowing = tuple(_last(own["ended"], tenth) / _first(own["ended"], tenth) for own in found)
    yield Line("nothing", f"{title}: last {tenth} ÷ first {tenth}", slowing, "x", 1.1)
    growth = tuple(own["growth"] for own in found)
    # What "flat" leaves room for are the results themselves.
    yield Line("nothing", f"{title}: driver's memory at most ÷ after {tenth}", growth, "x", 1.1)


def _first(ended: Sequence[float], count: int) -> float:
    return ended[count] - ended[0]


def _last(ended: Sequence[float], count: int) -> float:
    return ended[-1] - ended[-1 - count]


def _measured(bench: Bench, what: str, count: int, number: int) -> dict[str, Any]:
    with scratch() as folder:
        run(["-m", "scripts.benchmarks.many_runs", what, str(count), bench.data_dir], folder)
        figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    bench.note(f"{what} {count}", number, **figures)
    return figures
