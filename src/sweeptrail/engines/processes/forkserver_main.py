"""What the fork server does: import torch once, fork workers, let none outlive it."""

import contextlib
import gc
import importlib
import io
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import NoReturn

from sweeptrail.engines.processes.worker import GRACE, work_until_told

REQUEST = struct.Struct("=II")
"""A worker's number and a signal for it. Signal 0 asks for the worker: beside it come the descriptors of its
connection, of the file for its stack, and of its packed work."""

MOST_DESCRIPTORS = 253
"""How many Linux sends with one message."""


def main(requests: int, reports: int, preload: Sequence[str]) -> None:
    """Be the fork server until the other end of `requests` closes: the driver closed it, or died.

    Reports a traceback if the preloaded modules cannot be imported, else an empty dictionary and
    then, for each worker that dies, its number and how it ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the driver decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if isinstance(sys.stderr, io.TextIOWrapper):  # else the lines of several workers would run into each other
        sys.stderr.reconfigure(line_buffering=True, write_through=False)
    with (
        socket.socket(fileno=requests) as incoming,
        Connection(reports, readable=False) as outgoing,
        contextlib.suppress(BrokenPipeError),  # a driver that died hears no reports
    ):
        try:
            for module in preload:
                importlib.import_module(module)
        except BaseException:
            outgoing.send(traceback.format_exc())
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a worker lifts this when it can respond
        gc.freeze()  # a collection in a worker would write to, and so copy, all that was imported
        outgoing.send({})
        _Nursery(incoming, outgoing).run()
    os._exit(0)  # Python's own way out takes 0.3 s with torch in memory


def ending(code: int) -> str:
    """Return how a process ended, in words, from its exit code or the negative number of a signal."""
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (", as when memory runs out" if code == -signal.SIGKILL else "")


class _Nursery:
    """The workers that were forked here and are alive."""

    def __init__(self, requests: socket.socket, reports: Connection) -> None:
        self._requests = requests
        self._reports = reports
        self._numbers: dict[int, int] = {}
        # Workers read from the one end; the other is open only here, so they learn of this process's death.
        self._lifeline, self._life = os.pipe()
        # Python writes a byte for each SIGCHLD, which wakes up `wait`.
        self._child_ended, self._wakeup = os.pipe()
        os.set_blocking(self._child_ended, False)
        os.set_blocking(self._wakeup, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def run(self) -> None:
        try:
            is_wanted = True
            while is_wanted:
                ready = wait([self._requests, self._child_ended])
                for number, how in self._reap():
                    self._reports.send({number: how})
                if self._requests in ready:
                    is_wanted = self._serve_request()
        finally:
            self._end_workers()

    def _serve_request(self) -> bool:
        """Do what one request asks for; return False when no more will come."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, REQUEST.size, MOST_DESCRIPTORS)
        if not message:
            return False
        number, signal_number = REQUEST.unpack(message)
        if signal_number:
            self._signal(number, signal_number)
        else:
            self._fork(number, descriptors)
        return True

    def _signal(self, wanted: int, signal_number: int) -> None:
        for pid, number in self._numbers.items():  # whoever is in here was not waited for: the pid is still its own
            if number == wanted:
                os.kill(pid, signal_number)

    def _fork(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._reports.send({number: f"could not be started: {error}"})
        else:
            if pid == 0:
                self._become_worker(descriptors)
            self._numbers[pid] = number
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_worker(self, descriptors: list[int]) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._requests.close()
            self._reports.close()
            for descriptor in (self._life, self._child_ended, self._wakeup):
                os.close(descriptor)
            connection, stack, *work = descriptors
            work_until_told(Connection(connection), work, stack, self._lifeline)
        finally:
            os._exit(1)  # whatever happens, a worker never returns to the loop of the server

    def _reap(self) -> list[tuple[int, str]]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._child_ended, 65536)
        ended = []
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((self._numbers.pop(pid), ending(os.waitstatus_to_exitcode(status))))
        return ended

    def _end_workers(self) -> None:
        for pid in self._numbers:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self._numbers and wait([self._child_ended], deadline - time.monotonic()):
            self._reap()
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._numbers:
            os.waitpid(pid, 0)
