"""Anybody's MLflow code, whose calls are measured one by one; `main` writes the seconds that they take."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

BLOCK = 20
"""Calls of one kind, or steps, before those of the next: whatever slows the machine down slows all of them."""

ASYNCHRONOUS = "asynchronous"
VALUES = 100
"""Metrics of one log_batch."""

METRICS = 10
"""Values that are logged at a step of training."""

EDGE = 10_000
"""Values at the beginning, and at the end, of a long run."""


def calls(num_calls: int, addresses: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Log by each address, in turns; return the median of each kind of call. MLflow's own queue is a kind."""
    runs = {}
    for kind, uri in addresses.items():
        mlflow.set_tracking_uri(uri)
        runs[kind] = MlflowClient().create_run("0").info.run_id
    found: dict[str, dict[str, list[float]]] = {kind: {"log_metric": [], "log_batch": []} for kind in addresses}
    for step in range(0, num_calls, BLOCK):
        for kind, uri in addresses.items():
            mlflow.set_tracking_uri(uri)
            with mlflow.start_run(runs[kind]):
                _block(runs[kind], step, found[kind], synchronous=kind != ASYNCHRONOUS)
    mlflow.flush_async_logging()
    return {kind: {call: statistics.median(times) for call, times in each.items()} for kind, each in found.items()}


def _block(run_id: str, first: int, times: dict[str, list[float]], *, synchronous: bool) -> None:
    client = MlflowClient()
    for step in range(first, first + BLOCK):
        began = time.perf_counter()
        mlflow.log_metric("loss", step / 7, step=step, synchronous=synchronous)
        times["log_metric"].append(time.perf_counter() - began)
    now = round(time.time() * 1000)
    for step in range(first, first + BLOCK, 10):
        metrics = [Metric(f"metric_{number}", step / 7, now, step) for number in range(VALUES)]
        began = time.perf_counter()
        client.log_batch(run_id, metrics, synchronous=synchronous)
        times["log_batch"].append(time.perf_counter() - began)


def values(num_values: int, per_second: float) -> dict[str, float]:
    """Log so many values to one run, at most so many a second; return the median at the beginning and at the end."""
    times = []
    edge = min(EDGE, num_values // 2)
    with mlflow.start_run():
        first = time.perf_counter()
        for step in range(num_values):
            began = time.perf_counter()
            mlflow.log_metric("loss", step / 7, step=step)
            ended = time.perf_counter()
            times.append(ended - began)
            if (early := first + (step + 1) / per_second - ended) > 0.001:
                time.sleep(early)
    return {"first": statistics.median(times[:edge]), "last": statistics.median(times[-edge:]),
            "median": statistics.median(times), "seconds": time.perf_counter() - first}  # fmt: skip


def steps(num_steps: int, batch_size: int) -> dict[str, float]:
    """Train, in blocks with and without logging; return the median of a step of each kind, and of the logging alone."""
    train = _training(batch_size)
    found: dict[str, list[float]] = {"logged": [], "silent": []}
    for _ in range(3):
        train()
    with mlflow.start_run():
        for step in range(num_steps):
            kind = "logged" if step // BLOCK % 2 else "silent"
            began = time.perf_counter()
            loss = train()
            if kind == "logged":
                mlflow.log_metrics({f"metric_{number}": loss for number in range(METRICS)}, step=step)
            found[kind].append(time.perf_counter() - began)
    return {kind: statistics.median(times) for kind, times in found.items()}


def _training(batch_size: int) -> Callable[[], float]:
    """Return a step of training of a small CNN, which returns the loss."""
    import torch
    from torch.nn.functional import cross_entropy

    from sweeptrail import Network

    torch.set_num_threads(1)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters())
    images, labels = torch.rand(batch_size, 1, 28, 28), torch.randint(10, (batch_size,))

    def step() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        return loss.item()

    return step


MEASURED: dict[str, Callable[..., Any]] = {"calls": calls, "values": values, "steps": steps}


def main(what: str, *arguments: str) -> None:
    """Measure one thing, with arguments in JSON."""
    Path("figures.json").write_text(json.dumps(MEASURED[what](*map(json.loads, arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
