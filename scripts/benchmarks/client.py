"""What a call of MLflow's client takes by way of the outbox, beside MLflow's own ways."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from scripts.benchmarks.client_calls import ASYNCHRONOUS
from scripts.benchmarks.delays import free_port, plain_server
from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import CommandError, check, run, scratch, started
from sweeptrail.outbox.machine.condition import condition
from sweeptrail.outbox.machine.place import outboxes, read_place

ROWS = {
    "client": "mlflow.log_metric and log_batch of 100 by way of the outbox, on SQLite, over HTTP, asynchronously",
    "values": "1,000,000 values of one run, 1,000 a second: growth, the courier's memory, how late it is",
    "step": "a step of training with ten values logged by way of the outbox ÷ one without",
}

RATE = 1000
"""Values a second that the courier has to keep up with."""

MB = 1e6
PATIENCE = 3600.0
"""Seconds that a courier may take for what is left at the end."""

WAYS = {
    "outbox": "by way of the outbox, server there",
    "away": "by way of the outbox, server away",
    "SQLite": "MLflow on SQLite",
    "HTTP": "MLflow over HTTP to this machine",
    ASYNCHRONOUS: "the same with synchronous=False, which only queues it",
}
LIMITS = {"log_metric": 200.0, "log_batch": 1000.0}
"""Microseconds that a call may take by way of the outbox."""


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Measure each row, with a server and an outbox of its own."""
    if "client" in rows:
        yield from _calls(bench)
    if "values" in rows:
        yield from _values(bench)
    if "step" in rows:
        yield from _step(bench)


def _calls(bench: Bench) -> Iterator[Line]:
    found = []
    for number in range(1, bench.repeats + 1):
        with scratch() as folder, scratch() as data, plain_server(data) as port:
            server = f"http://127.0.0.1:{port}"
            away = f"http://127.0.0.1:{free_port()}"
            store = f"sqlite:///{folder}/mlflow.db"
            ways = (f"sweeptrail+{server}", f"sweeptrail+{away}", store, server, server)
            addresses = json.dumps(dict(zip(WAYS, ways, strict=True)))
            count = "40" if bench.quick else "1000"
            found.append(_figures(folder, "calls", count, addresses, **_variables(folder, server)))
        for way in WAYS:
            bench.note(f"client, {way}", number, **{call: 1e6 * found[-1][way][call] for call in LIMITS})
    for call, limit in LIMITS.items():
        for way, what in WAYS.items():
            each = tuple(1e6 * one[way][call] for one in found)
            title = f"{call}{' of 100' if call == 'log_batch' else ''}, {what}: median"
            yield Line("client", title, each, "µs", limit if way in ("outbox", "away") else None)


def _values(bench: Bench) -> Iterator[Line]:
    """Measure once, since that takes half an hour."""
    count = 2000 if bench.quick else 1_000_000
    with scratch() as folder, scratch() as data, plain_server(data) as port:
        variables = _variables(folder, f"http://127.0.0.1:{port}")
        command = ["-m", "scripts.benchmarks.client_calls", "values", str(count), str(RATE)]
        courier = Courier(folder)
        with started(command, folder, **variables) as process:
            while process.poll() is None:
                courier.look()
                time.sleep(1)
        check(process, folder)
        figures = json.loads((folder / "figures.json").read_text())
        left, began = courier.waiting(), time.monotonic()
        while courier.waiting():
            if time.monotonic() - began > PATIENCE:
                raise CommandError(f"the courier has not delivered {count} values within {PATIENCE:.0f} s")
            courier.look()
            time.sleep(1)
        late = time.monotonic() - began
        bench.note("values", 1, **figures, memory=courier.memory, left=float(left), late=late)
    title = f"{count:,} calls of mlflow.log_metric, {RATE:,} a second"
    yield Line("values", f"{title}: median of all", (1e6 * figures["median"],), "µs", 200)
    yield Line("values", f"{title}: last 10,000 ÷ first 10,000", (figures["last"] / figures["first"],), "x", 1.1)
    yield Line("values", f"{title}: until the last call returned", (figures["seconds"],), "s")
    yield Line("values", f"{title}: the courier's memory at most", (courier.memory,), "MB", 500)
    yield Line("values", f"{title}: records left at the end", (float(left),), "")
    yield Line("values", f"{title}: delivered so long after the end", (late,), "s")


def _step(bench: Bench) -> Iterator[Line]:
    sizes = (20,) if bench.quick else (100, 1000)
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for number in range(1, bench.repeats + 1):
        for size in sizes:
            with scratch() as folder:
                variables = _variables(folder, f"http://127.0.0.1:{free_port()}")  # away: nobody else computes
                steps = 80 if bench.quick else 100_000 // size
                found[size].append(_figures(folder, "steps", str(steps), str(size), **variables))
            bench.note(f"step, batches of {size}", number, **found[size][-1])
    for size, each in found.items():
        ratios = tuple(one["logged"] / one["silent"] for one in each)
        seconds = sum(one["silent"] for one in each) / len(each)
        what = f"a step of {1000 * seconds:.0f} ms (batch of {size}) with ten values logged ÷ without"
        yield Line("step", what, ratios, "x", 1.01)
        shares = tuple(100 * one["logging"] / one["silent"] for one in each)
        yield Line("step", f"{what}: the call itself, of a step", shares, "%", 1)


def _figures(folder: Path, *words: str, **variables: str) -> Any:
    run(["-m", "scripts.benchmarks.client_calls", *words], folder, exit_code=0, **variables)
    return json.loads((folder / "figures.json").read_text())


def _variables(folder: Path, server: str) -> dict[str, str]:
    return {"XDG_DATA_HOME": str(folder / "data"), "MLFLOW_TRACKING_URI": f"sweeptrail+{server}"}


class Courier:
    """The process that delivers the one outbox below a folder; it ends by itself when that folder is gone."""

    def __init__(self, folder: Path) -> None:
        self._outboxes = folder / "data" / "sweeptrail" / "outboxes"
        self.memory = 0.0
        """The most that nobody else used, in MB."""

    def look(self) -> None:
        """Look at how large it is now."""
        for process in psutil.process_iter(["cmdline"]):
            if str(self._outboxes) in " ".join(process.info["cmdline"] or ()):
                with suppress(psutil.Error):
                    self.memory = max(self.memory, process.memory_full_info().uss / MB)

    def waiting(self) -> int:
        """Return how many records wait."""
        return sum(condition(read_place(folder)).waiting for folder in outboxes(self._outboxes))
