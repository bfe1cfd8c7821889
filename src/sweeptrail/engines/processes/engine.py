"""Runs in several processes of this machine."""

import os
import pickle
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import failed
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.processes.worker import Answer
from sweeptrail.errors import SweeptrailError
from sweeptrail.records import Job, RunResult
from sweeptrail.system.shared_arrays import pack


class Processes:
    """Carries out jobs in worker processes that live as long as there are jobs.

    A worker that dies costs only the job it carried, which is tried again on a fresh one, `retries`
    times at most.
    """

    def __init__(self, workers: int, retries: int, server: ForkServer) -> None:
        """`server` is what the workers are forked from; it may have been started before."""
        self.workers = workers
        self.retries = retries
        self.server = server

    @contextmanager
    def open(self, work: Work) -> Iterator["_Crew"]:
        """Make ready; raises SweeptrailError if the work or the workers cannot be started."""
        if not hasattr(os, "fork"):
            raise SweeptrailError("this system cannot fork processes; write engine=serial")
        with pack(work) as packed, self.server as server:
            yield _Crew(server, packed, self.workers, self.retries)


def auto_workers(threads: int) -> int:
    """Return how many runs of so many threads the cores that this process may use can carry out at a time."""
    return max(1, available_cores() // threads)


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, or its container's share if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or the quota is "max"
        return cores


@dataclass
class _Worker:
    number: int
    connection: Connection
    job: Job | None = None
    hung_up: bool = False


class _Crew:
    """The workers, the jobs that wait, and how often each was lost."""

    def __init__(self, server: ForkServer, work: Sequence[int], size: int, retries: int) -> None:
        self._server = server
        self._work = work
        self._size = size
        self._retries = retries
        self._waiting: deque[Job] = deque()
        self._workers: dict[int, _Worker] = {}
        self._lost: dict[int, list[str]] = {}
        self._results: deque[RunResult] = deque()

    @property
    def has_room(self) -> bool:
        return len(self._waiting) + len(self._busy()) < self._size

    def __len__(self) -> int:
        return len(self._waiting) + len(self._busy()) + len(self._results)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._hand_out()

    def next_result(self) -> RunResult:
        while not self._results:
            self._hand_out()
            if self._busy():
                self._collect()
        self._hand_out()
        return self._results.popleft()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.job]

    def _hand_out(self) -> None:
        while self._waiting and len(self._busy()) < self._size:
            job = self._waiting.popleft()
            try:
                message = pickle.dumps(job)
            except Exception:
                self._results.append(failed(job, f"the job cannot be pickled:\n{traceback.format_exc()}"))
                continue
            worker = self._free_worker(fresh=job.index in self._lost)
            try:
                worker.connection.send_bytes(message)
                worker.job = job
            except OSError:  # it died while it had nothing to do, which costs nobody anything
                worker.hung_up = True
                self._waiting.appendleft(job)

    def _free_worker(self, *, fresh: bool) -> _Worker:
        idle = [worker for worker in self._workers.values() if not worker.job and not worker.hung_up]
        if idle and not fresh:
            return idle[0]
        worker = _Worker(*self._server.fork(self._work))
        self._workers[worker.number] = worker
        return worker

    def _collect(self) -> None:
        talking = {worker.connection: worker for worker in self._busy() if not worker.hung_up}
        ready = wait([self._server.reports, *talking])
        for connection, worker in talking.items():
            if connection in ready:
                self._receive(worker)
        if self._server.reports in ready:
            for number, how in self._server.deaths().items():
                self._bury(self._workers.pop(number), how)

    def _receive(self, worker: _Worker) -> None:
        assert worker.job
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            worker.hung_up = True  # the fork server will report how it died
            return
        self._results.append(_read(message, worker.job))
        worker.job = None

    def _bury(self, worker: _Worker, how: str) -> None:
        if worker.job and not worker.hung_up and worker.connection.poll():
            self._receive(worker)  # it had answered before it died
        if worker.job:
            self._lose(worker.job, how)
        worker.connection.close()

    def _lose(self, job: Job, how: str) -> None:
        lost = self._lost.setdefault(job.index, [])
        lost.append(how)
        if len(lost) <= self._retries:
            self._waiting.appendleft(job)
        else:
            times = "once" if len(lost) == 1 else f"{len(lost)} times"
            self._results.append(failed(job, f"the run was tried {times}, and its worker {'; then '.join(lost)}"))


def _read(message: bytes, job: Job) -> RunResult:
    try:
        answer: Answer = pickle.loads(message)
    except Exception:
        return failed(job, f"the result cannot be read:\n{traceback.format_exc()}")
    if isinstance(answer, SweeptrailError):
        raise answer
    return failed(job, answer) if isinstance(answer, str) else answer
