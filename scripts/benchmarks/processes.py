"""Commands as people start them: measured as whole processes, and ended with all that they started."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

PATIENCE = 10
"""Seconds that a process has to end by itself."""


class CommandError(Exception):
    """A command that was to be measured did not do its work."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a person who has activated this virtual environment and configured nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    path = f"{PROGRAMS}{os.pathsep}{kept['PATH']}"
    # The folder of the project itself is for the scripts of the bench.
    modules = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return {**kept, "PATH": path, "PYTHONPATH": modules, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a fresh folder, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="sweeptrail-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def started(command: Sequence[str], folder: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a Python command in a folder; its output goes to `output.txt` there.

    It has a session of its own; nothing of that is alive after the block.
    """
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def run(command: Sequence[str], folder: Path, *, exit_code: int = 0, **variables: str) -> float:
    """Return how many seconds a Python command takes from its start to its end.

    Raises CommandError if it ends with any other exit code.
    """
    began = time.perf_counter()
    with started(command, folder, **variables) as process:
        process.wait()
        seconds = time.perf_counter() - began
    check(process, folder, exit_code)
    return seconds


def check(process: "subprocess.Popen[bytes]", folder: Path, exit_code: int = 0) -> None:
    """Raise CommandError, with what it wrote last, if a process has ended in any other way than it should."""
    if process.returncode not in (None, exit_code):
        output = (folder / "output.txt").read_text(errors="replace")
        raise CommandError(f"{process.args!r} ended with {process.returncode}:\n{output[-3000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    for left in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(left.pid) == process.pid:
                left.kill()
    process.wait()
