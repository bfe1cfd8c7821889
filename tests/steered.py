"""`sweeptrail` as a process that tests hold up and end at moments of their own choice."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sweeptrail.system.files import write_whole
from tests.commands import Forked, environment
from tests.server import kill_group
from tests.waiting import FOR_EVER, wait_for

HELD = """
import os, sys, time
from pathlib import Path

epochs = []

def wait(event, arguments):
    if event != "open":
        return
    path = str(arguments[0])
    number = Path(path).parent.name.partition("_")[0]
    while "/events." in path and number.isdigit() and int(number) > int(Path(GO).read_text()):
        time.sleep(0.02)
    if HALFWAY and path.endswith("checkpoint.tmp") and arguments[1] == "wb" and number == Path(GO).read_text():
        epochs.append(number)
        while len(epochs) > 1:
            time.sleep(0.02)

sys.addaudithook(wait)
"""
"""Has each run wait at its beginning, when its event file is opened, until it may go on.

Halfway, the last that may begin waits for ever when the checkpoint of its second epoch is opened.
"""


class Held:
    """Sweeps whose runs begin when the test lets them; each is held up by the environment that it is started with."""

    def __init__(self, hook: Path, runs: int, *, halfway: bool = False) -> None:
        """Let this many runs begin, the last of them halfway; the folder is for what holds up the others."""
        hook.mkdir(exist_ok=True)
        self._go = hook / "go"
        (hook / "sitecustomize.py").write_text(HELD.replace("GO", repr(str(self._go))).replace("HALFWAY", str(halfway)))
        self.environment = {"PYTHONPATH": f"{hook}{os.pathsep}{environment()['PYTHONPATH']}"}
        self.let_begin(runs)

    def let_begin(self, runs: int) -> None:
        """Let the runs up to this number begin."""
        write_whole(self._go, str(runs))

    def let_go(self) -> None:
        """Let all of them begin."""
        self.let_begin(10**6)


STOPPED = f"""
import pkgutil, sys, time
from pathlib import Path

moment, reached, *words = sys.argv[1:]
owner_name, _, name = moment.rpartition(".")
owner = pkgutil.resolve_name(owner_name)
function = getattr(owner, name)

def stopped(*positional, **named):
    function(*positional, **named)
    Path(reached).touch()
    time.sleep({FOR_EVER})

setattr(owner, name, stopped)
from sweeptrail.cli import main
main(words)
"""
"""`sweeptrail WORDS`, which goes no further when a function has returned for the first time."""


def kill_after(moment: str, *words: str, cwd: Path | None = None) -> None:
    """Run `sweeptrail WORDS` and kill it, as a power cut would, when a function has done its work."""
    with tempfile.TemporaryDirectory() as scratch:
        reached = Path(scratch, "reached")
        with begun(sys.executable, "-c", STOPPED, moment, str(reached), *words, cwd=cwd or Path(scratch)) as process:
            wait_for(lambda: reached.exists() or process.poll() is not None)
            assert process.poll() is None, f"it has ended before {moment}"


@contextmanager
def begun(
    *command: str, cwd: Path, output: Path = Path(os.devnull), **more: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a command at the head of a group of its own, which is killed at the end; then its group has ended too."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(**more), stdout=file, stderr=file, start_new_session=True
        )
    with _ended(process):
        yield process


@contextmanager
def begun_program(*words: str, cwd: Path, output: Path, **more: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Start `sweeptrail WORDS` likewise, in a process that has loaded MLflow already."""
    output.touch()
    with _ended(Forked(*words, cwd=cwd, output=output, errors=output, **more)) as process:
        yield process


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> "Iterator[subprocess.Popen[bytes]]":
    try:
        yield process
        process.kill()
        process.wait()
        wait_for_end(process)
    finally:
        kill_group(process)


def wait_for_end(leader: "subprocess.Popen[Any]") -> None:
    """Wait until no process of a group is left."""
    wait_for(lambda: not list(_group(leader.pid)))


def _group(number: int) -> Iterator[psutil.Process]:
    for one in psutil.process_iter():
        try:
            if os.getpgid(one.pid) == number and one.status() != psutil.STATUS_ZOMBIE:
                yield one
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
