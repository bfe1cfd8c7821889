"""Runs on a Ray cluster, one task each."""

import contextlib
import os
import pickle
import queue
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from sweeptrail.engines import Options, Work
from sweeptrail.engines.carry_out import failed
from sweeptrail.engines.processes.engine import auto_workers
from sweeptrail.engines.ray import worker
from sweeptrail.engines.ray.timer import INTERVAL, STACK_TIME, Timer, timing
from sweeptrail.engines.ray.worker import Answer, Shared
from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.records import Job, RunResult
from sweeptrail.system.watchdog import descendants, watchdog

GRACE = 1.0
"""Seconds that a cancelled run has to clean up; a local cluster takes 1.5 s more to end."""

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for the cluster; Ray itself tries for more than ten minutes."""


class Ray:
    """Carries out jobs on a cluster. A process that is connected to Ray already, a notebook's, stays on its cluster."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @contextmanager
    def open(self, work: Work) -> Iterator["_Tasks"]:
        """Make ready; raises SweeptrailError if there is no Ray, no cluster, or no worker that can load the work."""
        with ExitStack() as stack:
            ray = stack.enter_context(self._connected())
            timer = stack.enter_context(timing(ray, self.options.run_timeout))
            shared = _put(ray, Shared(work, stack.enter_context(self._home()), timer))
            tasks = _Tasks(ray, shared, self.options, timer)
            stack.callback(tasks.cancel)
            yield tasks

    @contextmanager
    def _connected(self) -> Iterator[ModuleType]:
        options = self.options
        address = options.address or os.environ.get("RAY_ADDRESS") or "local"
        ray = import_ray(address)
        if ray.is_initialized():
            yield ray
            return
        others = set(descendants(os.getpid()))
        try:
            if address == "local":
                workers = options.workers or auto_workers(options.threads)
                connect(address, num_cpus=workers * options.threads)
                _check_gpus(options.gpus_per_run, ray.cluster_resources().get("GPU", 0))
            else:
                connect(address, runtime_env={"py_modules": _code(options.modules)})
            # Without it, two processes of a local cluster stay for minutes.
            with watchdog(sorted(set(descendants(os.getpid())) - others)):
                yield ray
        finally:
            ray.shutdown()

    @contextmanager
    def _home(self) -> Iterator[worker.Home | None]:
        """Describe the sweep to its workers; None when the runs are not tracked."""
        if self.options.sweep_folder is None:
            yield None
            return
        with worker.home_of(self.options.sweep_folder, self.options.tracking_uri, os.environ) as home:
            yield home


def _put(ray: ModuleType, shared: Shared) -> Any:
    try:
        return ray.put(shared)
    except Exception as error:
        raise SweeptrailError(f"{shared.work!r} cannot be sent to another process: {error}") from error


def connect(address: str, **options: Any) -> None:
    """Start a cluster of this machine's own, reached from nowhere else, if the address is `local`; else join one.

    Raises SweeptrailError if there is no Ray, UsageError if there is no cluster at the address.
    """
    ray = import_ray(address)
    if address == "local":
        options["include_dashboard"] = False
    else:
        _check_address(address)
    with _signals_held_back():
        try:
            ray.init(address, logging_level="error", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SweeptrailError(f"Ray cannot be started or joined at {address!r}: {error}") from error


def import_ray(address: str) -> ModuleType:
    """Return the package, set up for the cluster at this address; raises SweeptrailError if it is not installed."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",  # it would call home
        "RAY_DEDUP_LOGS": "0",  # it would hide what several runs print alike
        "RAY_task_oom_retries": "1",  # it would try for ever a run that does not fit into memory
    }
    if address == "local":
        # Only this lets Ray listen on the loopback interface alone, on Linux too; other users of the
        # machine reach that as well, and Ray would keep the token that keeps them out in the home folder.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "RAY_AUTH_MODE" not in os.environ:
            settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    try:
        import ray
    except ImportError as error:
        raise SweeptrailError("engine=ray needs the package ray; write pip install 'sweeptrail[ray]'") from error
    return ray


def _check_address(address: str) -> None:
    if address == "auto":
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((place.hostname or "", place.port or 0), CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"engine=ray: no cluster answers at {address!r} ({error}); "
            "write RAY_ADDRESS=HOST:6379, or leave it out for a cluster of this machine's own"
        ) from error


def _check_gpus(wanted: float, there: float) -> None:
    if wanted > there:
        raise UsageError(
            f"gpus_per_run: expected at most the {there:g} GPUs of this machine, got {wanted:g}; write gpus_per_run=0"
        )


def _code(modules: Sequence[str]) -> list[str]:
    """Return what the cluster does not have, to be sent there: this package, and modules of the current folder."""
    own = [Path.cwd() / name for module in modules for name in (module, f"{module}.py")]
    return [str(Path(__file__).parents[2]), *(str(path) for path in own if path.exists())]


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Deliver SIGINT and SIGTERM after the `with` block, to the handlers of before; a second one ends the process.

    Inside Ray what a handler raises can be lost, and Ray sets a handler of its own for SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def hold_back(number: int, _: object) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)

    before = {name: signal.signal(name, hold_back) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        for number in caught:
            signal.raise_signal(number)


def _room(ray: ModuleType, options: Options) -> int:
    """Return how many runs the cluster carries out at a time."""
    wanted = {"CPU": options.threads, "GPU": options.gpus_per_run}
    there = ray.cluster_resources()
    return max(1, min(int(there.get(name, 0) // each) for name, each in wanted.items() if each))


class _Tasks:
    """The tasks that Ray has accepted and not answered."""

    def __init__(self, ray: ModuleType, shared: Any, options: Options, timer: Timer | None) -> None:
        self._ray = ray
        self._shared = shared
        self._retries = options.retries
        self._workers = options.workers or (_room(ray, options) if options.is_adaptive else None)
        self._timer = timer
        self._overdue: set[int] = set()
        # Ray gives a task with a GPU a process of its own: one that has used a GPU cannot use another.
        self._function = ray.remote(num_gpus=options.gpus_per_run, max_retries=options.retries)(worker.answer)
        self._pending: dict[Future[bytes], tuple[Job, Any]] = {}
        # Not ray.wait: what a signal handler raises while that waits is lost.
        self._done: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()

    @property
    def has_room(self) -> bool:
        return self._workers is None or len(self._pending) < self._workers

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, job: Job) -> None:
        """Hand a job to Ray."""
        try:
            message = pickle.dumps((job, worker.read_files(Path(job.folder)) if job.sinks else {}))
        except Exception:
            future: Future[bytes] = Future()
            reason = f"the job cannot be pickled:\n{traceback.format_exc()}"
            future.set_result(pickle.dumps(Answer(reason)))
            self._pending[future] = (job, None)
            self._done.put(future)
            return
        function = self._function.options(name=job.name, num_cpus=job.threads)
        reference = function.remote(self._shared.hex(), self._shared, message)
        future = reference.future()
        self._pending[future] = (job, reference)
        future.add_done_callback(self._done.put)

    def next_result(self) -> RunResult:
        """Wait for the next task that ends, however it does."""
        future = self._next_done()
        job, _ = self._pending.pop(future)
        try:
            message = future.result()
        except self._ray.exceptions.RayError as error:
            if self._timer and job.index in self._overdue:
                return failed(job, f"the run took longer than run_timeout={self._timer.seconds:g} s")
            if isinstance(error, self._ray.exceptions.RayTaskError) and not isinstance(error, KeyboardInterrupt):
                raise SweeptrailError(f"a Ray worker cannot load the work:\n{error}") from error
            return failed(job, self._reason(error))
        try:
            answer: Answer = pickle.loads(message)
        except Exception:
            return failed(job, f"the result cannot be read:\n{traceback.format_exc()}")
        return _received(answer, job)

    def _next_done(self) -> "Future[bytes]":
        while True:
            with contextlib.suppress(queue.Empty):
                return self._done.get(timeout=INTERVAL if self._timer else None)
            self._end_overdue()

    def _end_overdue(self) -> None:
        """Kill the workers whose runs take too long, on whatever machine; Ray tries no run again that was cancelled."""
        assert self._timer
        # Without the clock's machine there is no word of how long runs take; they go on.
        with contextlib.suppress(self._ray.exceptions.RayError):
            asked = self._timer.clock.longer_than.remote(self._timer.seconds + STACK_TIME)
            overdue = asked.future().result()
            for job, reference in self._pending.values():
                if job.index in overdue - self._overdue:
                    self._overdue.add(job.index)
                    self._ray.cancel(reference, force=True)

    def _reason(self, error: Exception) -> str:
        name = type(error).__name__
        if not isinstance(error, (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.NodeDiedError)):
            return f"{error}\n{name}: Ray could not carry out the run"
        times = "once" if self._retries == 0 else f"{self._retries + 1} times"
        return f"{error}\nthe run was tried {times}, and its worker was lost: {name}"

    def cancel(self) -> None:
        """End every task that is left: let it clean up, then kill it."""
        for _, reference in self._pending.values():
            self._ray.cancel(reference)
        end = time.monotonic() + GRACE
        with contextlib.suppress(queue.Empty):
            while self._pending:
                future = self._done.get(timeout=max(0, end - time.monotonic()))
                job, _ = self._pending.pop(future)
                with contextlib.suppress(Exception):  # most have no answer
                    worker.write_files(Path(job.folder), pickle.loads(future.result()).files)
        for _, reference in self._pending.values():
            self._ray.cancel(reference, force=True)


def _received(answer: Answer, job: Job) -> RunResult:
    """Put everything where it would be if the job had run here."""
    for stream, text in ((sys.stdout, answer.out), (sys.stderr, answer.err)):
        stream.write(text)
        stream.flush()
    worker.write_files(Path(job.folder), answer.files)
    if isinstance(answer.result, SweeptrailError):
        raise answer.result
    return failed(job, answer.result) if isinstance(answer.result, str) else answer.result
