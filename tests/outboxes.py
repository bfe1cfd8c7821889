"""Scripts that log through an outbox of the test's own, and what has arrived of it on a plain server."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.outbox.delivery.state import STATE_NAME, DeliveryState
from sweeptrail.outbox.journal import FILE_NAME
from tests.commands import Forked
from tests.waiting import wait_for


class Outboxes:
    """The outboxes of one test, for the server at one address."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri
        self.scripts: list[Script] = []

    def environment(self) -> dict[str, str]:
        """Return what makes a script log through an outbox."""
        return {"XDG_DATA_HOME": str(self.folder / "data"), "MLFLOW_TRACKING_URI": f"sweeptrail+{self.uri}"}

    def begin(self, code: str, **more: str) -> "Script":
        """Start a script in a process that has loaded MLflow already; it has a folder of its own."""
        folder = self.folder / f"script {len(self.scripts) + 1}"
        folder.mkdir(parents=True)
        self.scripts.append(Script(code, folder, {**self.environment(), **more}))
        return self.scripts[-1]

    def run(self, code: str, **more: str) -> str:
        """Return what a script prints that runs to its end."""
        script = self.begin(code, **more)
        assert script.process.wait() == 0, script.errors()
        return script.output()

    @property
    def box(self) -> Path:
        """The one outbox."""
        [found] = (self.folder / "data" / "sweeptrail" / "outboxes").iterdir()
        return found

    def couriers(self) -> list[psutil.Process]:
        """Return the processes that deliver; one that only begins is none yet."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[1:3] == ["-m", "sweeptrail.outbox.machine.courier_process"] and str(self.folder) in words[-1]:
                found.append(process)
        return found

    def courier(self) -> psutil.Process:
        """Return the process that delivers, when others that were started at the same time have seen it and ended."""
        wait_for(lambda: len(self.couriers()) == 1)
        return self.couriers()[0]

    def settle(self) -> None:
        """Wait until everything is delivered of every process that is gone."""
        wait_for(lambda: not [*(self.box / "writers").iterdir()])

    def settle_run(self, run_id: str) -> None:
        """Wait until a run is delivered as far as it is written now, whoever still writes to it."""
        path = self.box / run_id / FILE_NAME
        size = path.stat().st_size
        wait_for(lambda: DeliveryState(path, self.uri).offset >= size)

    def server_id(self, run_id: str) -> str:
        """Return the id of a run on the server."""
        assert (self.box / run_id / STATE_NAME).exists()
        return DeliveryState(self.box / run_id / FILE_NAME, self.uri).run_id or ""


class Script:
    """A script that runs."""

    def __init__(self, code: str, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        output, errors = folder / "output", folder / "errors"
        output.touch()
        errors.touch()
        self.process = Forked(cwd=folder, code=dedent(code), output=output, errors=errors, **environment)

    def output(self) -> str:
        """Return what it has printed up to now."""
        return (self.folder / "output").read_text()

    def errors(self) -> str:
        """Return what it has said up to now."""
        return (self.folder / "errors").read_text()

    def said(self, word: str) -> str:
        """Wait until a line that begins with this word is printed, and return what follows it there."""

        def found() -> list[str]:
            return [line for line in self.output().split("\n")[:-1] if line.startswith(f"{word} ")]

        wait_for(lambda: found() or self.process.poll() is not None)
        assert found(), self.errors()
        return found()[0].removeprefix(f"{word} ")


@contextmanager
def outboxes(folder: Path, uri: str) -> Iterator[Outboxes]:
    """Have outboxes for as long as the block lasts, and end who delivers them."""
    found = Outboxes(folder, uri)
    try:
        yield found
    finally:
        for script in found.scripts:
            script.process.kill()
            script.process.wait()
        for process in found.couriers():
            process.kill()


def plain(uri: str) -> MlflowClient:
    """Return a client that asks the server itself."""
    return MlflowClient(uri, uri)


def runs_in(uri: str, experiment: str) -> list[Run]:
    """Return the runs that a server has in an experiment."""
    client = plain(uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def values(uri: str, run: Run, metric: str) -> Counter[float]:
    """Return how often a server has each value of a metric."""
    return Counter(each.value for each in plain(uri).get_metric_history(run.info.run_id, metric))
