"""A fault-injecting HTTP proxy that stands before a tracking server."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.server import free_port
from tests.waiting import PATIENCE, wait_for

FAULTS = ("refuse", "hang", "error500", "cut", "lost", "slow", "empty")
"""What can happen to a request.

refuse    the connection is reset before anything is read
hang      no answer; when the proxy is released, the server gets the request after all, as from a queue
error500  500, in half of the cases after the server has done the work
cut       the server does the work, and half of its answer arrives
lost      the server does the work, and the connection is closed without an answer
slow      the answer comes late
empty     200 without a body, or with {} for one; in half of the cases the server has never seen the request
"""

MODES = ("pass", *FAULTS, "flaky")
"""What the proxy can be set to; `flaky` draws for each request."""

BRIEF_FAULTS = tuple(fault for fault in FAULTS if fault != "hang")
"""What `flaky` draws from, for every other request; a hang lasts as long as the client's patience."""


class Proxy:
    """Passes requests on to the server at this port, with one kind of fault at a time."""

    def __init__(self, target_port: int, seed: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.mode = "pass"
        self.log: list[tuple[str, str]] = []
        """What was done with each request: the fault, then method and path."""
        self.in_flight = 0
        """How many requests have come and are not dealt with yet, those that hang among them."""
        self._released = threading.Event()
        self._random = random.Random(seed)
        self._script: deque[str] = deque()
        self._wanted: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._listener: _Listener | None = None

    def start(self) -> None:
        """Listen, or listen again at the same address."""
        self._listener = _Listener(self)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and let go of what hangs; connections are refused from now on."""
        self.release()
        if self._listener:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener.cut_connections()
            self._listener = None

    def outage(self, mode: str, *, after: int, requests: int) -> None:
        """Let so many requests pass, treat so many after that by this mode, then pass again."""
        with self._lock:
            self._script = deque(["pass"] * after + [mode] * requests)

    def once(self, mode: str, path: str) -> None:
        """Treat the next request whose path ends like this by this mode."""
        with self._lock:
            self._wanted = (mode, path)

    def faults(self) -> list[str]:
        """Return what was done to the requests that did not simply pass."""
        return [fault for fault, _ in self.log if fault != "pass"]

    def release(self) -> None:
        """Let the server have what hangs now."""
        released, self._released = self._released, threading.Event()
        released.set()

    def settle(self) -> None:
        """Wait until the server has dealt with everything that was passed on to it."""
        wait_for(lambda: not self.in_flight)

    @contextmanager
    def passing(self) -> Iterator[threading.Event]:
        """Count a request while it is dealt with; yield what it waits for if it hangs."""
        with self._lock:
            self.in_flight += 1
        try:
            yield self._released
        finally:
            with self._lock:
                self.in_flight -= 1

    def draw(self, method: str, path: str) -> str:
        """Return what is done with the next request: a fault, with its variant where it has two."""
        with self._lock:
            mode = self._script.popleft() if self._script else self.mode
            if self._wanted and path.endswith(self._wanted[1]):
                mode, self._wanted = self._wanted[0], None
            if mode == "flaky":
                mode = self._random.choice(["pass", self._random.choice(BRIEF_FAULTS)])
            if mode == "error500":
                mode = self._random.choice(["error500 before", "error500 after"])
            if mode == "empty":
                mode = self._random.choice(["empty before", "empty after", "{} before", "{} after"])
            self.log.append((mode, f"{method} {path}"))
            return mode

    def delay(self) -> float:
        """Return the seconds by which a slow answer is late."""
        with self._lock:
            return self._random.uniform(0.02, 0.12)


INSTEAD = {
    "error500": (500, b"<html>Internal Server Error</html>"),
    "empty": (200, b""),
    "{}": (200, b"{}"),
}
"""What the client is told instead of the server's answer."""


@contextmanager
def proxy_before(target_port: int, seed: int) -> Iterator[Proxy]:
    """Run a proxy for as long as the block lasts; the seed is printed, so that a failure can be repeated."""
    print(f"proxy seed: {seed}")
    proxy = Proxy(target_port, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", proxy.port), _Handler)

    def process_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: "socket.socket | tuple[bytes, socket.socket]") -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Cut what is kept open, which outlives the listening socket."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as a real server keeps them
    disable_nagle_algorithm = True
    server: _Listener

    def _handle(self) -> None:
        proxy = self.server.proxy
        with proxy.passing() as released:
            fault = proxy.draw(self.command, self.path.partition("?")[0])
            body = b"" if fault == "refuse" else self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match fault.split():
                case ["pass"]:
                    self._answer(*self._forward(body))
                case ["slow"]:
                    time.sleep(proxy.delay())
                    self._answer(*self._forward(body))
                case ["cut"]:
                    self._answer(*self._forward(body), cut=True)
                case ["lost"]:
                    self._forward(body)
                    self.close_connection = True
                case ["hang"]:
                    released.wait()
                    self._forward(body)
                    self.close_connection = True
                case ["refuse"]:
                    self._reset()
                case [answer, when]:
                    if when == "after":
                        self._forward(body)
                    self._answer(*INSTEAD[answer])

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # the names that http.server looks for

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        """Have the server do the work; return the status and body of its answer."""
        server = http.client.HTTPConnection("127.0.0.1", self.server.proxy.target_port, timeout=PATIENCE)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        try:
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 502, b"<html>Bad Gateway</html>"
        finally:
            server.close()

    def _answer(self, status: int, body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        """Close the connection so that the client is told that it was reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
