"""Runs in several processes of this machine."""

import os
import pickle
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import BinaryIO

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import failed
from sweeptrail.engines.processes.deadline import Deadline
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.processes.worker import Answer
from sweeptrail.errors import SweeptrailError
from sweeptrail.outbox.run_journal import keep_stack
from sweeptrail.records import Job, RunResult
from sweeptrail.system.shared_arrays import pack


class Processes:
    """Carries out jobs in worker processes that live as long as there are jobs.

    A worker that dies costs only the job it carried, which is tried again on a fresh one, `retries`
    times at most.
    """

    def __init__(self, workers: int, retries: int, server: ForkServer, *, run_timeout: float | None = None) -> None:
        """`server` is what the workers are forked from; it may have been started before.

        A run that takes longer than `run_timeout` seconds is ended, with its worker.
        """
        self.workers = workers
        self.retries = retries
        self.server = server
        self.run_timeout = run_timeout

    @contextmanager
    def open(self, work: Work) -> Iterator["_Crew"]:
        """Make ready; raises SweeptrailError if the work or the workers cannot be started."""
        if not hasattr(os, "fork"):
            raise SweeptrailError("this system cannot fork processes; write engine=serial")
        with pack(work) as packed, self.server, closing(_Crew(self, packed)) as crew:
            yield crew


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
    stack: BinaryIO
    """Where it writes what its threads do when it is asked for that."""
    job: Job | None = None
    deadline: Deadline = field(default_factory=Deadline)
    hung_up: bool = False

    def begin(self, job: Job, timeout: float | None) -> None:
        self.job, self.deadline = job, Deadline(timeout)
        self.stack.seek(0)  # for the worker as well
        self.stack.truncate()  # a job before may have answered just after its time was over


class _Crew:
    """The workers, the jobs that wait, and how often each was lost."""

    def __init__(self, engine: Processes, work: Sequence[int]) -> None:
        self._server = engine.server
        self._work = work
        self._size = engine.workers
        self._retries = engine.retries
        self._run_timeout = engine.run_timeout
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

    def close(self) -> None:
        """Close the files that were kept for workers."""
        for worker in self._workers.values():
            worker.stack.close()

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
                worker.begin(job, self._run_timeout)
            except OSError:  # it died while it had nothing to do, which costs nobody anything
                worker.hung_up = True
                self._waiting.appendleft(job)

    def _free_worker(self, *, fresh: bool) -> _Worker:
        idle = [worker for worker in self._workers.values() if not worker.job and not worker.hung_up]
        if idle and not fresh:
            return idle[0]
        stack = tempfile.TemporaryFile()  # noqa: SIM115  # closed with its worker
        number, connection = self._server.fork(self._work, stack.fileno())
        worker = self._workers[number] = _Worker(number, connection, stack)
        return worker

    def _collect(self) -> None:
        talking = {worker.connection: worker for worker in self._busy() if not worker.hung_up}
        waits = [seconds for worker in self._busy() if (seconds := worker.deadline.wait) is not None]
        ready = wait([self._server.reports, *talking], min(waits, default=None))
        for connection, worker in talking.items():
            if connection in ready:
                self._receive(worker)
        if self._server.reports in ready:
            for number, how in self._server.deaths().items():
                self._bury(self._workers.pop(number), how)
        for worker in self._busy():
            self._end_if_overdue(worker)

    def _end_if_overdue(self, worker: _Worker) -> None:
        signals = worker.deadline.due_signals()
        if not self._server.is_ready:  # the worker will be there when the server has imported what it should
            worker.deadline = Deadline(self._run_timeout)
            return
        for number in signals:
            self._server.signal(worker.number, number)

    def _receive(self, worker: _Worker) -> None:
        assert worker.job
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            worker.hung_up = True  # the fork server will report how it died
            return
        if not worker.deadline.is_cancelled:
            self._results.append(_read(message, worker.job))
            worker.job = None

    def _bury(self, worker: _Worker, how: str) -> None:
        if worker.job and not worker.hung_up and worker.connection.poll():
            self._receive(worker)  # it had answered before it died
        if worker.job and worker.deadline.is_over:
            # Not tried again: it would most likely hang again, and hold a worker for as long once more.
            self._results.append(self._overdue(worker.job, worker.stack))
        elif worker.job:
            self._lose(worker.job, how)
        worker.connection.close()
        worker.stack.close()

    def _overdue(self, job: Job, stack: BinaryIO) -> RunResult:
        """Return the result of a job that took too long, after keeping where it was."""
        stack.seek(0)
        if job.sinks:
            keep_stack(Path(job.folder), stack.read())
        return failed(job, f"the run took longer than run_timeout={self._run_timeout:g} s")

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
