"""Where a server listens, and by which names its clients may call it."""

import ipaddress
import socket
from dataclasses import dataclass

from sweeptrail.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Address:
    """Where the server listens, and by which names its clients may call it."""

    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError if others could reach the server and its names are not known, or the port is taken."""
        problems = []
        if not 1 <= self.port <= 65535:
            problems.append(f"--port: expected 1 to 65535, got {self.port}")
        if not is_loopback(self.host) and not self.allowed_hosts:
            problems.append(
                f"--host {self.host}: others can reach the server there; name what they call it by: "
                "--allowed-hosts mlflow.example.org (several separated by commas)"
            )
        problems += [
            f"--allowed-hosts: expected names such as mlflow.example.org, got {name!r}"
            for name in self.allowed_hosts
            if not name or set(name) & set("*?[]/@ ")
        ]
        if problems:
            raise UsageError(problems)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self.host, self.port))
        except OSError as error:
            raise UsageError(
                f"--host {self.host} --port {self.port}: cannot listen there ({error.strerror}); write another --port"
            ) from error

    @property
    def uri(self) -> str:
        """What clients on this machine call the server by."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
        host = everywhere.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}"

    @property
    def names(self) -> list[str]:
        """What a request may name as its host, with the port and, behind a proxy, without."""
        known = dict.fromkeys([*LOOPBACK, self.uri.removeprefix("http://").rpartition(":")[0], *self.allowed_hosts])
        return [form for name in known for form in (name, f"{name}:{self.port}")]

    @property
    def origins(self) -> list[str]:
        """Which pages may change something: the server's own."""
        return [f"{scheme}://{name}" for name in self.names for scheme in ("http", "https")]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
