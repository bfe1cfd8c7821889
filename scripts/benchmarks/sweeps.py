"""Whole default sweeps against the article's loop, training alone, without tracking, over HTTP, with one worker."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.benchmarks.delays import free_port, late_server
from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import run, scratch
from scripts.benchmarks.raw_files import write_raw_files
from scripts.benchmarks.rounds import Comparison, Contender, Measured, in_turns, line, seconds_line
from sweeptrail.engines.processes.engine import available_cores

DELAY = 0.05
"""Seconds that each reply of the tracking server comes late."""

POINTS = 100

MAKE_DATABASE = """
from sweeptrail.tracking.sqlite import make_database
from sweeptrail.tracking.uri import usable_uri

make_database(usable_uri("sqlite:///mlflow.db"))
"""
"""What a sweep does that finds no database, 2 s of work for a processor: MLflow makes it step by step."""


def sweep(
    bench: Bench,
    *options: str,
    has_database: bool = True,
    has_ending: bool = False,
    exit_code: int = 0,
    **variables: str,
) -> Measured:
    """Measure the default sweep, its accuracies those of training as in the article.

    Any sweep but the very first finds its database made. The ending is the report and the champion.
    """
    few = ["--train-samples", "2000", "--epochs", "1"] if bench.quick else []
    common = ["--validation-samples", "0", "--data-dir", bench.data_dir]
    common += [] if has_ending else ["--report", "false", "--register", "none"]
    with scratch() as folder:
        if has_database:
            run(["-c", MAKE_DATABASE], folder)
        seconds = run(["-m", "sweeptrail", "sweep", *common, *few, *options], folder, exit_code=exit_code, **variables)
        [results] = folder.glob("runs/*/results.json")
        return Measured(seconds, accuracies(results))


def first_sweep(bench: Bench) -> Measured:
    return sweep(bench, has_database=False)


def untracked(bench: Bench) -> Measured:
    return sweep(bench, "--no-tracking")


def over_http(bench: Bench) -> Measured:
    with scratch() as folder, late_server(folder, DELAY) as uri:
        return sweep(bench, MLFLOW_TRACKING_URI=uri)


def dead_server(bench: Bench) -> Measured:
    """Measure with a tracking server that never answers, for which the sweep does not wait at its end."""
    uri = f"http://127.0.0.1:{free_port()}"
    return sweep(bench, "--delivery-timeout", "0", exit_code=3, MLFLOW_TRACKING_URI=uri)


def with_ending(bench: Bench) -> Measured:
    return sweep(bench, has_ending=True)


def one_worker(bench: Bench) -> Measured:
    return sweep(bench, "--workers", "1")


def two_workers(bench: Bench) -> Measured:
    return sweep(bench, "--workers", "2")


def article(bench: Bench) -> Measured:
    """Measure the article's way of doing it, from data in the form that torchvision reads fastest."""
    few = ["2000", "1"] if bench.quick else ["60000", "3"]
    with scratch() as folder:
        write_raw_files(bench.data_dir, folder)
        seconds = run(["-m", "scripts.benchmarks.article", *few], folder)
        return Measured(seconds, accuracies(folder / "results.json"))


def training_alone(bench: Bench) -> Measured:
    few = ["2000", "1"] if bench.quick else ["60000", "3"]
    with scratch() as folder:
        return Measured(run(["-m", "scripts.benchmarks.training_only", bench.data_dir, *few], folder))


CONTENDERS: dict[str, Contender] = {
    "article's loop": article,
    "training alone": training_alone,
    "sweep": sweep,
    "untracked sweep": untracked,
    "first sweep": first_sweep,
    "sweep over HTTP": over_http,
    "sweep, server dead": dead_server,
    "sweep with report and champion": with_ending,
    "sweep, two workers": two_workers,
    "sweep, one worker": one_worker,
}
"""In the order of their turns: what is compared most closely lies side by side."""

TWO_WORKERS = "sweep" if available_cores() == 2 else "sweep, two workers"

COMPARISONS = {
    "article": Comparison("article's loop ÷ sweep", "article's loop", "sweep", 2.7, 3.0, at_least=True),
    "training": Comparison("sweep ÷ training alone", "sweep", "training alone", 1.10, 1.05),
    "sqlite": Comparison("tracked on SQLite ÷ not tracked", "sweep", "untracked sweep", 1.02),
    "first": Comparison("tracked, making the database ÷ not tracked", "first sweep", "untracked sweep"),
    "http": Comparison(
        "tracked over HTTP, replies 50 ms late ÷ not tracked", "sweep over HTTP", "untracked sweep", 1.02
    ),
    "dead": Comparison(
        "tracked, server dead the whole time ÷ not tracked", "sweep, server dead", "untracked sweep", 1.02
    ),
    "ending": Comparison("with report and registered champion ÷ without", "sweep with report and champion", "sweep"),
    "workers": Comparison("one worker ÷ two workers", "sweep, one worker", TWO_WORKERS, 1.8, at_least=True),
}

ROWS = {name: comparison.what for name, comparison in COMPARISONS.items()}


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure each contender once in a round, however many comparisons it is part of."""
    compared = [COMPARISONS[row] for row in rows]
    wanted = {name for comparison in compared for name in (comparison.dividend, comparison.divisor)}
    contenders = {name: contender for name, contender in CONTENDERS.items() if name in wanted}
    found = in_turns(contenders, bench.repeats, bench)
    for row, comparison in zip(rows, compared, strict=True):
        yield line(row, comparison, found)
        if row == "article":
            yield accuracy_line(found)
    for name in contenders:
        yield seconds_line("seconds", name, found)


def accuracy_line(found: Mapping[str, Sequence[Measured]]) -> Line:
    """Return how far apart the accuracies of any combination are."""
    pairs = zip(found["article's loop"], found["sweep"], strict=True)
    return Line(
        "article",
        "largest difference in the accuracy of a combination",
        tuple(POINTS * _largest_difference(theirs.accuracies, ours.accuracies) for theirs, ours in pairs),
        "points",
        1.0,
    )


def _largest_difference(theirs: Mapping[str, float], ours: Mapping[str, float]) -> float:
    assert theirs.keys() == ours.keys()
    return max(abs(theirs[name] - ours[name]) for name in theirs)


def accuracies(results: Path) -> dict[str, float]:
    """Return the accuracy of each combination after its last epoch, from the table of a sweep."""
    rows = json.loads(results.read_text())
    ordered = sorted(rows, key=lambda row: row["epoch"])
    return {
        f"lr={row['lr']} batch_size={row['batch_size']} shuffle={row['shuffle']}": row["accuracy"] for row in ordered
    }
