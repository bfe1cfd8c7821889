"""A process that imports a task's module, for the driver: it tells what the task is, and makes its data."""

import array
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe
from types import ModuleType
from typing import Any

from sweeptrail.errors import SweeptrailError, UsageError, one_line
from sweeptrail.system.imports import when_imported
from sweeptrail.system.shared_arrays import pack, unpack
from sweeptrail.tasks.code import Importable
from sweeptrail.tasks.function import are_valid
from sweeptrail.tasks.shared import shared_values
from sweeptrail.tasks.signature import Signature, read_signature
from sweeptrail.tasks.work import seed_everything

BOOT = (
    "import os; os.environ.pop('MLFLOW_RUN_ID', None); os.environ['MPLBACKEND'] = 'agg'; "
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from sweeptrail.tasks.host import main; main{arguments}"
)

MOST_DESCRIPTORS = 253
"""How many Linux sends with one message."""


class Host:
    """The process; leaving the `with` block ends it."""

    def __init__(self, code: Importable) -> None:
        self._code = code

    def __enter__(self) -> "Host":
        self._connection, there = Pipe()
        self._descriptors, descriptors = socket.socketpair()
        with there, descriptors:
            arguments = (there.fileno(), descriptors.fileno(), self._code.module, self._code.name)
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT.format(arguments=arguments), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
                pass_fds=[there.fileno(), descriptors.fileno()],
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._descriptors.close()
        self._process.kill()
        self._process.wait()

    def signature(self) -> Signature:
        """Return what the task says of itself; raises UsageError if there is no such task, or it is none."""
        found: Signature = self._ask("signature")
        return found

    def are_valid(self, combinations: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Return for each combination of hyperparameters whether the module's `valid` lets it be."""
        answers: list[bool] = self._ask("are_valid", list(combinations))
        return answers

    def prepare(self) -> dict[str, Any]:
        """Return what the module's `prepare` makes, its arrays in memory that processes share."""
        self._ask("prepare")
        size = array.array("i").itemsize * MOST_DESCRIPTORS
        message, ancillary, _, _ = self._descriptors.recvmsg(1, socket.CMSG_SPACE(size))
        found = array.array("i")
        for _, _, data in ancillary:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
        if not message or not found:
            raise SweeptrailError(f"task {self._code}: what prepare() has made did not arrive")
        values: dict[str, Any] = unpack(list(found), adopt=True)
        return values

    def _ask(self, what: str, *arguments: Any) -> Any:
        try:
            self._connection.send((what, arguments))
            answer = self._connection.recv()
        except (EOFError, OSError):
            how = self._process.wait()
            raise UsageError(f"task {self._code}: the process that imports {self._code.module} ended ({how})") from None
        if isinstance(answer, SweeptrailError):
            raise answer
        return answer


def main(connection: int, descriptors: int, module: str, name: str) -> None:
    """Be the host until the other end of the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the driver, which then ends this process
    with Connection(connection) as requests, socket.socket(fileno=descriptors) as outgoing, suppress(EOFError):
        code = Importable(module, name)
        while True:
            what, arguments = requests.recv()
            try:
                requests.send(ANSWERS[what](code, outgoing, *arguments))
            except SweeptrailError as error:
                requests.send(error)
            except BaseException as error:  # whatever the module's own functions raise
                traceback.print_exc()
                requests.send(UsageError(f"task {code}: {what.removeprefix('are_')}() failed: {one_line(error)}"))


def _signature(code: Importable, _: socket.socket) -> Signature:
    return read_signature(code.load())


def _are_valid(code: Importable, _: socket.socket, combinations: Sequence[Mapping[str, Any]]) -> list[bool]:
    return are_valid(_module(code).valid, combinations)


def _prepare(code: Importable, outgoing: socket.socket) -> None:
    with pack(shared_values(prepared(_module(code)), f"task {code}: prepare()")) as packed:
        socket.send_fds(outgoing, [b"."], packed)


def prepared(module: ModuleType) -> Any:
    """Return what the module's `prepare` makes, the same each time as far as the random generators decide it."""
    seed_everything(0)
    with when_imported("torch", partial(seed_everything, 0)):
        return module.prepare()


def _module(code: Importable) -> ModuleType:
    seed_everything(0)  # the module may draw numbers when it is imported
    code.load()
    return sys.modules[code.module]


ANSWERS: Mapping[str, Callable[..., Any]] = {"signature": _signature, "are_valid": _are_valid, "prepare": _prepare}


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # a notebook's stream has none
        return False
    return True
