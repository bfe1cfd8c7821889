"""The fork server as the driver sees it: start it, have it fork workers, hear of deaths, end it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from types import TracebackType

from sweeptrail.engines.processes.forkserver_main import REQUEST, ending
from sweeptrail.engines.processes.worker import GRACE
from sweeptrail.errors import SweeptrailError

# A network's module that uses MLflow would write into the sweep's own run, if it inherited that one's id.
# Importing numpy would start threads, and threads do not survive a fork. (Not by Popen's `env`: the courier's
# thread may change the environment while it is being read.)
BOOT = (
    "import os; os.environ.pop('MLFLOW_RUN_ID', None); os.environ['OPENBLAS_NUM_THREADS'] = '1'; "
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from sweeptrail.engines.processes.forkserver_main import main; main{arguments}"
)


class ForkServer:
    """A process that workers are forked from; leaving a `with` block ends it and all of them.

    Not multiprocessing's own fork server: that one is shared with the user's code, runs the user's
    script again in each worker, and leaves a resource tracker behind.
    """

    reports: Connection
    """Can be read, or waited for, when `deaths` has something to tell."""

    def __init__(self, preload: Sequence[str]) -> None:
        """`preload` are the modules that are imported once for all workers."""
        self._wanted = tuple(preload)
        # Apple's own libraries, which torch loads, do not survive a fork: there each worker imports for itself.
        self._preload = () if sys.platform == "darwin" else tuple(preload)
        self._count = 0
        self._alive: set[int] = set()
        self._is_started = False

    def __enter__(self) -> "ForkServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def has_loaded(self, modules: Sequence[str]) -> bool:
        """Tell whether these, and no others, are the modules that it imports for all workers."""
        return self._wanted == tuple(modules)

    def start(self) -> None:
        """Start it, if it is not: done early, it imports torch while there is no work for it yet."""
        if not self._is_started:
            self._launch()

    def close(self) -> None:
        """End it and all its workers."""
        if self._is_started:
            self._is_started = False
            self._end()

    @property
    def is_ready(self) -> bool:
        """Whether it has imported all it should; workers that were asked for before are forked only then."""
        return self._is_ready

    def fork(self, work: Sequence[int], stack: int) -> tuple[int, Connection]:
        """Start a worker with this work, packed; return its number and the connection to it.

        `stack` is the descriptor of the file to which it writes where its threads are, at STACK_SIGNAL.
        """
        self._count += 1
        self._alive.add(self._count)
        here, there = Pipe()
        with there, contextlib.suppress(BrokenPipeError):  # that the server has died, `deaths` will tell
            socket.send_fds(self._requests, [REQUEST.pack(self._count, 0)], [there.fileno(), stack, *work])
        return self._count, here

    def signal(self, number: int, signal_number: int) -> None:
        """Send a signal to a worker, if it is alive."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.send(REQUEST.pack(number, signal_number))

    def deaths(self) -> dict[int, str]:
        """Return which workers have died since the last call, and how: `{3: "was killed by SIGKILL"}`.

        A server that died itself is replaced. Raises SweeptrailError when the server cannot start.
        """
        dead: dict[int, str] = {}
        try:
            while self.reports.poll():
                report = self.reports.recv()
                if isinstance(report, str):
                    raise SweeptrailError(f"workers cannot be started:\n{report}")
                dead.update(report)
                self._is_ready = True
        except (EOFError, ConnectionResetError):
            dead.update(self._replace())
        self._alive.difference_update(dead)
        return dead

    def _launch(self) -> None:
        self._is_started, self._is_ready = True, False
        self._requests, requests = socket.socketpair()
        self.reports, reports = Pipe(duplex=False)
        with requests, reports:
            try:
                self._process = self._start(requests.fileno(), reports.fileno())
            except BaseException:
                self._requests.close()  # ends a server that was started but never got its name here
                raise

    def _start(self, requests: int, reports: int) -> "subprocess.Popen[bytes]":
        arguments = (requests, reports, self._preload)
        # A Ctrl-C before the new process ignores it would end it with a traceback on the terminal.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return subprocess.Popen(
                [sys.executable, "-c", BOOT.format(arguments=arguments), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=[requests, reports],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _replace(self) -> dict[int, str]:
        how = ending(self._process.wait())
        if not self._is_ready:
            raise SweeptrailError(f"the process that starts the workers {how}; what it wrote to the terminal says why")
        time.sleep(GRACE)  # its workers notice, and are gone by then: no run must be carried out twice at a time
        self._end()
        self._launch()
        return dict.fromkeys(self._alive, f"ended because the process that started it {how}")

    def _end(self) -> None:
        self._requests.close()  # the server takes this as the word to end its workers and itself
        try:
            self._process.terminate()  # heeded only while it imports, when it has no workers yet
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE + 0.5)
        finally:
            self._process.kill()
            self._process.wait()
            self.reports.close()
