"""A tracking server on loopback whose replies come late, as from far away."""

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

from scripts.benchmarks.processes import CommandError, check, started

START_TIMEOUT = 120
"""Seconds that MLflow's server may take to answer for the first time."""


@contextmanager
def late_server(folder: Path, delay: float) -> Iterator[str]:
    """Yield the URI of a real MLflow server, its data in a folder, behind a proxy that delays each reply."""
    with plain_server(folder) as port, delayed(port, delay) as late_port:
        yield f"http://127.0.0.1:{late_port}"


@contextmanager
def plain_server(folder: Path) -> Iterator[int]:
    """Yield the port of MLflow's own server, on SQLite and with one worker, its data in a folder."""
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    command = ["-m", "mlflow", "server", *options, *stores]
    with started(command, folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as process:
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                check(process, folder)
                raise CommandError(f"MLflow's server did not answer within {START_TIMEOUT} s")
            time.sleep(0.2)
        yield port


@contextmanager
def delayed(port: int, delay: float) -> Iterator[int]:
    """Yield the port of a proxy that holds each reply of a port back for so many seconds."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                _carry(self.request, server, delay)

    with _Proxy(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()


class _Proxy(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def _carry(client: socket.socket, server: socket.socket, delay: float) -> None:
    """Carry bytes both ways until one side hangs up; what comes first after a request is held back."""
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the kernel would hold small packets back too
    asked = threading.Event()
    threading.Thread(target=_carry_requests, args=(client, server, asked), daemon=True).start()
    with contextlib.suppress(OSError):
        while data := server.recv(1 << 16):
            if asked.is_set():
                asked.clear()
                time.sleep(delay)
            client.sendall(data)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)  # wakes up the other thread


def _carry_requests(client: socket.socket, server: socket.socket, asked: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(1 << 16):
            asked.set()
            server.sendall(data)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:  # URLError is one
        return False
