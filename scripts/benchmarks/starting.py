"""How long it takes until something happens."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import run, scratch
from scripts.benchmarks.rounds import Comparison, Measured, in_turns, line, seconds_line
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import EpochMetrics

ROWS = {
    "startup": "process start to first training step ÷ bare import torch",
    "help": "python -m sweeptrail --help",
}


def first_step(bench: Bench) -> Measured:
    """Measure from the start of the default sweep, on fewer images, to the first step of its first run."""
    with scratch() as folder:
        began = time.time()
        few = ["--train-samples", "1000", "--epochs", "1", "--report", "false", "--register", "none"]
        run(["-m", "sweeptrail", "sweep", "--data-dir", bench.data_dir, *few], folder)
        return Measured(min(_first_step(path) for path in folder.glob("runs/*/*/outbox.jsonl")) - began)


def _first_step(path: Path) -> float:
    """Return when the first epoch of a run began: just before its first step, with all sinks open."""
    entries = [entry for entry, _ in journal.read(path)]
    first = next(entry for entry in entries if isinstance(entry, EpochMetrics))
    return first.time / 1000 - first.values["epoch_duration"]


def import_torch(bench: Bench) -> Measured:
    """Measure from the start of Python to the end of the import; how Python ends is left out."""
    with scratch() as folder:
        began = time.time()
        run(["-c", "import time, torch; print(time.time())"], folder)
        return Measured(float((folder / "output.txt").read_text()) - began)


def show_help(bench: Bench) -> Measured:
    with scratch() as folder:
        return Measured(run(["-m", "sweeptrail", "--help"], folder))


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure the start of a sweep and that of the help."""
    if "startup" in rows:
        found = in_turns({"first training step": first_step, "import torch": import_torch}, bench.short_repeats, bench)
        yield line("startup", Comparison(ROWS["startup"], "first training step", "import torch", 1.5), found)
        for name in found:
            yield seconds_line("startup", name, found)
    if "help" in rows:
        found = in_turns({"help": show_help}, bench.short_repeats, bench)
        yield Line("help", ROWS["help"], tuple(measured.seconds for measured in found["help"]), "s", 0.3)
