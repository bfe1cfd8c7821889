"""Many people who sweep at once on one tracking server.

`main` is one of them: a sweep that trains nothing, its words on the command line; it notes each request in
`requests.json`.
"""

import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from scripts.benchmarks.arrived import arrived
from scripts.benchmarks.figures import Bench
from scripts.benchmarks.processes import CommandError, run, started
from scripts.benchmarks.team import Person
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Epoch, Job, RunResult, RunStart
from sweeptrail.sweeps import run as sweep
from sweeptrail.tasks.work import Training

EXPERIMENT = "load"
EPOCHS = 3
EVENTS = 100_000
"""Bytes of TensorBoard's file of a run."""

ATTEMPTS = 5
"""How often to try to send later what was not sent; what then still waits counts as lost."""

NOT_SENT = 3
"""The exit code of a sweep that has left something for `sync`."""

LONGEST = 1800.0
"""Seconds that the load may take."""


def load(bench: Bench, people: Sequence[Person], folder: Path) -> dict[str, Any]:
    """Let each person carry out a sweep of eight small runs at the same moment; return what they saw."""
    few = ["--lr", "0.01", "--shuffle", "true"] if bench.quick else []
    words = ["sweep", "--engine", "serial", "--epochs", str(EPOCHS), "--report", "false", "--register", "none", *few]
    words += ["--data-dir", bench.data_dir, "--experiment", EXPERIMENT]
    folders = [folder / f"client-{number}" for number in range(len(people))]
    began = time.time()
    codes = _carry_out(words, people, folders)
    seconds = time.time() - began
    requests_made = [request for one in folders for request in json.loads((one / "requests.json").read_text())]
    times = sorted(request["seconds"] for request in requests_made)
    delivering = max(one["ended"] for one in requests_made) - min(
        one["ended"] - one["seconds"] for one in requests_made
    )
    for person, one, code in zip(people, folders, codes, strict=True):
        if code == NOT_SENT:  # an error of the load all the same, but nothing is lost for that
            _send_later(one, person)
    there = arrived(people[0], EXPERIMENT, folders)
    return {
        "seconds": seconds,
        "errors": float(sum(code != 0 for code in codes)),
        "failed": float(sum(one["status"] == 0 or one["status"] >= 500 for one in requests_made)),
        "lost": float(there.lost),
        "twice": float(there.twice),
        "p50": 1000 * percentile(times, 50),
        "p95": 1000 * percentile(times, 95),
        "requests": float(len(times)),
        "records": float(there.records),
        "records per second": there.records / delivering,
        "problems": dict(Counter(_problem(one) for one in requests_made if not 200 <= one["status"] < 300)),
    }


def _problem(request: dict[str, Any]) -> str:
    return f"{request['what'].partition('?')[0]}: {request['problem'] or request['status']}"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _carry_out(words: Sequence[str], people: Sequence[Person], folders: Sequence[Path]) -> list[int]:
    """Return the exit code of each person's sweep."""
    deadline = time.monotonic() + LONGEST
    with ExitStack() as clients:
        processes = []
        for person, folder in zip(people, folders, strict=True):
            folder.mkdir()
            command = ["-m", "scripts.benchmarks.load", *words]
            processes.append(clients.enter_context(started(command, folder, **person.variables)))
        while any(process.poll() is None for process in processes):
            if time.monotonic() > deadline:
                raise CommandError(f"not all clients have ended within {LONGEST:.0f} s")
            time.sleep(0.05)
        return [process.returncode for process in processes]


class OnlyTracked(Training):
    """Leaves what a run leaves that was trained, without training anything."""

    def __call__(self, job: Job) -> RunResult:
        outbox = RunJournal(str(Path(job.folder).parent), parent=job.parent, tags=job.tags)
        outbox.begin(RunStart(job.index, job.name, job.params, {"epochs": EPOCHS}, EPOCHS, time=time.time()))
        Path(job.folder, "events.out.tfevents.1").write_bytes(random.randbytes(EVENTS))
        epochs = tuple(self._epoch(job, number, outbox) for number in range(1, EPOCHS + 1))
        measured = {"test_loss": random.random(), "test_accuracy": random.random()}
        result = RunResult(job.index, job.name, job.params, "FINISHED", epochs, measured, time=time.time())
        outbox.end(result)
        return result

    def _epoch(self, job: Job, number: int, outbox: RunJournal) -> Epoch:
        validation = {"validation_loss": random.random(), "validation_accuracy": random.random()}
        measured = (random.random(), random.random(), 1.0, float(number))
        epoch = Epoch(job.index, number, *measured, validation, time=time.time())
        outbox.epoch(epoch)
        return epoch


def _send_later(folder: Path, person: Person) -> None:
    for _ in range(ATTEMPTS):
        with suppress(CommandError):  # the server does not answer yet
            run(["-m", "sweeptrail", "sync"], folder, **person.variables)
            return


@contextmanager
def noted() -> Iterator[list[dict[str, Any]]]:
    """Yield a list of the requests that this process makes in the block: their time, status and seconds."""
    made: list[dict[str, Any]] = []
    send = requests.Session.send

    def timed(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        began, status, problem = time.perf_counter(), 0, ""
        try:
            reply = send(self, request, **options)
            status = reply.status_code
            return reply
        except requests.RequestException as error:
            problem = str(error)
            raise
        finally:
            seconds = time.perf_counter() - began
            made.append({"what": f"{request.method} {request.path_url}", "status": status, "problem": problem,
                         "ended": time.time(), "seconds": seconds})  # fmt: skip

    requests.Session.send = timed  # type: ignore[method-assign]  # replaced for the measurement
    try:
        yield made
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def main(words: Sequence[str]) -> None:
    """Carry out a sweep as the command line does, but for training and TensorBoard."""
    from sweeptrail import cli

    os.nice(10)  # people have processors of their own: all together must not take the server's
    sweep.Training = OnlyTracked  # type: ignore[attr-defined]  # replaced for the measurement
    with noted() as made:
        try:
            cli.main(words)
        finally:
            Path("requests.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1:])
