"""What a team's server costs, and what it does for twenty people at once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil

from scripts.benchmarks.delays import plain_server
from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.load import load, percentile
from scripts.benchmarks.processes import scratch
from scripts.benchmarks.team import Person, person, start, team_place
from sweeptrail.server import supervisor

ROWS = {
    "server": "start of a team's server, and its memory",
    "log_batch": "six metrics to a team's server, on a kept connection, as an ordinary user",
    "load": "20 people at once, each a sweep of 8 small runs: on a team's server, and on MLflow's with SQLite",
}

PEOPLE = 20
MB = 1e6
METRICS = ("validation_accuracy", "accuracy", "loss", "epoch_duration", "run_duration", "validation_loss")

EACH = {
    "errors": ("clients that ended with an error", "", 0.0),
    "failed": ("requests without an answer or with a 5xx, made again later", "", None),
    "lost": ("facts lost", "", 0.0),
    "twice": ("facts twice", "", 0.0),
    "p50": ("a request as the client sees it, median", "ms", None),
    "p95": ("a request as the client sees it, 95th percentile", "ms", None),
    "requests": ("requests", "", None),
    "records": ("records", "", None),
    "records per second": ("records per second, from the first request to the last", "1/s", None),
    "seconds": ("until the last client has ended", "s", None),
}
"""For each figure of the load: what it is, its unit, what it must not exceed on the team's server."""


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure each row on servers of its own."""
    if "server" in rows:
        yield from _starts(bench)
    if "log_batch" in rows:
        yield from _log_batches(bench)
    if "load" in rows:
        yield from _loads(bench)


def _starts(bench: Bench) -> Iterator[Line]:
    found: list[dict[str, float]] = []
    for number in range(1, bench.repeats + 1):
        with team_place() as place:
            first = start(place)
            supervisor.stop(place)
            second = start(place)
            found.append({"first": first, "second": second, **memory(place.state()["pid"])})
        bench.note("server", number, **found[-1])
    for name in ("first", "second"):
        yield Line("server", f"{name} start until it answers", tuple(one[name] for one in found), "s", 10)
    yield Line("server", "memory of all processes (PSS)", tuple(one["pss"] for one in found), "MB", 1500)
    yield Line("server", "memory that nothing else uses (USS)", tuple(one["uss"] for one in found), "MB")


def memory(process: int) -> dict[str, float]:
    """Return the memory of a server's processes, all together."""
    first = psutil.Process(process)
    sizes = {"pss": 0.0, "uss": 0.0}
    for one in [first, *first.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found = one.memory_full_info()
            sizes["pss"] += found.pss / MB
            sizes["uss"] += found.uss / MB
    return sizes


def _log_batches(bench: Bench) -> Iterator[Line]:
    count = 20 if bench.quick else 500
    medians, late = [], []
    with team_place() as place:
        start(place)
        ada = person(place, "ada")
        with ada.session() as session:
            made = {"experiment_id": ada.experiment(session, "log_batch"), "start_time": milliseconds()}
            run_id = ada.ask(session, "POST", "api/2.0/mlflow/runs/create", json=made)["run"]["info"]["run_id"]
        for number in range(1, bench.repeats + 1):
            times = log_batches(ada, run_id, count)
            medians.append(1000 * percentile(times, 50))
            late.append(1000 * percentile(times, 95))
            bench.note("log_batch", number, median=medians[-1], p95=late[-1])
    yield Line("log_batch", f"{ROWS['log_batch']}: median of {count}", tuple(medians), "ms", 15)
    yield Line("log_batch", f"{ROWS['log_batch']}: 95th percentile", tuple(late), "ms")


def log_batches(who: Person, run_id: str, count: int) -> list[float]:
    """Log six metrics so many times, after one time that does not count; return the seconds, in order of size."""
    times = []
    with who.session() as session:
        for step in range(count + 1):
            values = [{"key": key, "value": step / 7, "timestamp": milliseconds(), "step": step} for key in METRICS]
            began = time.perf_counter()
            who.ask(session, "POST", "api/2.0/mlflow/runs/log-batch", json={"run_id": run_id, "metrics": values})
            times.append(time.perf_counter() - began)
    return sorted(times[1:])


def milliseconds() -> int:
    return round(time.time() * 1000)


def _loads(bench: Bench) -> Iterator[Line]:
    found: dict[str, list[dict[str, Any]]] = {"team's server": [], "SQLite": []}
    for number in range(1, bench.repeats + 1):
        for name, load_on in (("team's server", _on_team_server), ("SQLite", _on_sqlite)):
            measured = load_on(bench)
            bench.note(f"load on {name}", number, **measured)
            found[name].append(measured)
    for name, each in found.items():
        for key, (what, unit, limit) in EACH.items():
            values = tuple(one[key] for one in each)
            yield Line("load", f"{name}: {what}", values, unit, limit if name == "team's server" else None)
    grown = tuple(one["pss"] for one in found["team's server"])
    yield Line("load", "team's server: memory of all processes afterwards (PSS)", grown, "MB", 1500)


def _on_team_server(bench: Bench) -> dict[str, Any]:
    with team_place() as place, scratch() as folder:
        start(place)
        people = [person(place, f"person-{number}") for number in range(_people(bench))]
        return {**load(bench, people, folder), **memory(place.state()["pid"])}


def _on_sqlite(bench: Bench) -> dict[str, Any]:
    with scratch() as data, plain_server(data) as port, scratch() as folder:
        return load(bench, [Person(f"http://127.0.0.1:{port}")] * _people(bench), folder)


def _people(bench: Bench) -> int:
    return 2 if bench.quick else PEOPLE
