"""Somebody's machine with outboxes of its own, on which scripts are started."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from mlflow.entities import Run

from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.machine.facts import RunFacts
from sweeptrail.outbox.machine.place import WRITERS
from sweeptrail.tracking.tags import IDENTITY
from tests.commands import environment
from tests.waiting import PATIENCE

QUICK = {"OMP_NUM_THREADS": "1", "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "0"}
"""MLflow would load each model in a process of its own to find out which packages it needs."""


class Machine:
    """It has one outbox at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, uri: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run Python to its end, each time in the same empty folder, since a script may log where it is."""
        home = self._folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        return subprocess.run(
            [sys.executable, *words],
            cwd=home,
            env=environment(MLFLOW_TRACKING_URI=uri, XDG_DATA_HOME=str(self._folder), **QUICK),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def outbox(self) -> Path:
        """The folder of its outbox."""
        [outbox] = (self._folder / "sweeptrail" / "outboxes").iterdir()
        return outbox

    def is_delivered(self) -> bool:
        """Tell whether all processes that wrote are gone, and all that they wrote is delivered."""
        return not any((self.outbox / WRITERS).iterdir())

    def told(self, run: Run) -> RunFacts:
        """Return what the journal of a run says."""
        return RunFacts(self.outbox / run.data.tags[IDENTITY] / FILE_NAME).refresh()

    def end_courier(self) -> None:
        """End the process that delivers; of a test that fails it would go on for an hour."""
        for process in psutil.process_iter(["cmdline"]):
            if any(word.startswith(f"{self._folder}/") for word in process.info["cmdline"] or ()):
                process.kill()


@contextmanager
def machine_in(folder: Path) -> Iterator[Machine]:
    """Have a machine for as long as the block lasts."""
    machine = Machine(folder)
    try:
        yield machine
    finally:
        machine.end_courier()
