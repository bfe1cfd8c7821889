"""Ends other processes when this one dies, however it dies."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SCRIPT = 'read -r _; kill -KILL "$@" 2>/dev/null'
"""The pipe that the shell reads from closes when this process dies."""


@contextmanager
def watchdog(processes: Sequence[int]) -> Iterator[None]:
    """Kill these processes if this one dies in the `with` block."""
    command = ["sh", "-c", SCRIPT, "sh", *map(str, processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as dog:
        try:
            yield
        finally:
            dog.kill()


def descendants(process: int) -> Iterator[int]:
    """Yield the children of a process, and theirs; none where the system does not tell (it does on Linux)."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:  # the thread has just ended
            continue
        for child in children:
            yield child
            yield from descendants(child)
