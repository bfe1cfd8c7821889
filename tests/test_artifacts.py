"""Files, texts and figures of a person's own reach the run as they were when they were logged."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.entries import Artifact
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Job, RunResult, RunStart
from sweeptrail.tasks.task_run import TaskRun
from sweeptrail.tracking.client import TrackingServer
from tests.commands import client, family, start
from tests.inside_run import deliver, files_of
from tests.server import mlflow_server
from tests.small_sweep import close_parent, open_parent, runs_of

pytestmark = pytest.mark.slow

NAME = "1_lr=0.1"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def open_run(sweep: Path) -> TaskRun:
    job = Job(1, NAME, {"lr": 0.1}, {}, str(sweep / NAME), parent=sweep.name, sinks=("outbox",))
    sinks = [RunJournal(str(sweep), parent=sweep.name, tags={})]
    return TaskRun(job, sinks, shared={}, checkpoint=None)


@contextmanager
def run_of(sweep: Path) -> Iterator[TaskRun]:
    """Be in a run of a sweep from its beginning, or where it goes on, to its end."""
    manager = open_run(sweep)
    yield manager
    assert manager.finish().status == "FINISHED"


def told(sweep: Path) -> list[str]:
    """Return which artifacts the run's journal tells of, in their order."""
    entries = (entry for entry, _ in journal.read(sweep / NAME / journal.FILE_NAME))
    return [f"{each.to}/{Path(each.path).name}".lstrip("/") for each in entries if isinstance(each, Artifact)]


def stored(store: str, sweep: Path, into: Path) -> dict[str, bytes]:
    server, [run] = deliver(store, sweep)
    return files_of(server, run, into)


def figure(height: float = 2.0) -> Figure:
    drawn = Figure(figsize=(1, 1))
    drawn.subplots().plot([1, height])
    return drawn


def test_what_is_logged_arrives_as_it_was_whatever_becomes_of_the_file(tmp_path: Path, sweep: Path, store: str) -> None:
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "one.bin").write_bytes(content := os.urandom(300_000))
    (made / "deep" / "two.txt").write_text("two")
    (made / "empty").touch()
    with run_of(sweep) as manager:
        manager.log_artifact(made / "one.bin")
        manager.log_artifact(str(made / "one.bin"), "weights/best")
        manager.log_artifact(made, to="all")
        (made / "one.bin").write_bytes(b"changed")
        (made / "deep" / "two.txt").unlink()
        manager.log_text("ünicode\r\n", "texts/a.txt")
        manager.log_figure(figure(), "plots/curve.png")
    found = stored(store, sweep, tmp_path / "found")
    assert found.pop("plots/curve.png").startswith(b"\x89PNG")
    assert found == {
        "one.bin": content,
        "weights/best/one.bin": content,
        "all/made/one.bin": content,
        "all/made/deep/two.txt": b"two",
        "all/made/empty": b"",
        "texts/a.txt": "ünicode\r\n".encode(),
    }


def test_a_later_file_of_the_same_name_replaces_an_earlier_one(tmp_path: Path, sweep: Path, store: str) -> None:
    with run_of(sweep) as manager:
        manager.log_text("first", "a.txt")
        manager.log_text("first, beside it", "a.txt.tmp")
        manager.log_text("second", "a.txt")
    assert told(sweep) == ["a.txt", "a.txt.tmp", "a.txt"]
    assert stored(store, sweep, tmp_path / "found") == {"a.txt": b"second", "a.txt.tmp": b"first, beside it"}
    assert not list((sweep / NAME).glob("*.tmp"))


def log_all(manager: TaskRun, text: str) -> None:
    manager.log_text(text, "a.txt")
    manager.log_text("the same", "b.txt")
    manager.log_figure(figure(), "c.png")


def test_going_on_only_what_has_changed_is_told_again(tmp_path: Path, sweep: Path, store: str) -> None:
    log_all(open_run(sweep), "before")  # and its process is killed
    with run_of(sweep) as manager:
        log_all(manager, "after")
        log_all(manager, "after")
    assert told(sweep) == ["a.txt", "b.txt", "c.png", "a.txt"]
    found = stored(store, sweep, tmp_path / "found")
    assert (found["a.txt"], found["b.txt"]) == (b"after", b"the same")


def test_a_file_that_was_written_and_not_told_is_told_when_the_run_goes_on(sweep: Path) -> None:
    open_run(sweep)
    (sweep / NAME / "artifacts").mkdir()
    (sweep / NAME / "artifacts" / "a.txt").write_text("text")
    with run_of(sweep) as manager:
        manager.log_text("text", "a.txt")
    assert told(sweep) == ["a.txt"]


GOOD = [
    "ü ñ 漢.txt",
    "a b&=+;,'\"<>|*:$!~`@{}[]().txt",
    "100%.txt",
    ".hidden",
    "-rf",
    "CON",
    "a" * 250,
    "a/./b//c.txt",
]


@pytest.mark.slow
def test_odd_names_arrive_at_a_server(tmp_path: Path, sweep: Path) -> None:
    with run_of(sweep) as manager:
        for name in GOOD:
            manager.log_text(name, name)
    with mlflow_server(tmp_path / "server") as server:
        found = stored(server.uri, sweep, tmp_path / "found")
    assert found == {str(Path(name)): name.encode() for name in GOOD}


@pytest.mark.slow
def test_names_that_plain_mlflow_code_has_chosen_do_not_keep_the_rest_from_arriving(
    tmp_path: Path, sweep: Path
) -> None:
    sink = RunJournal(str(sweep), parent=sweep.name, tags={})
    sink.begin(RunStart(1, NAME, {"lr": 0.1}, time=1000.0))
    for name in ("why?.txt", "a#b.txt", "plain.txt"):
        (sweep / NAME / name).write_text(name)
        sink.add_artifact(sweep / NAME / name, "")
    sink.end(RunResult(1, NAME, {"lr": 0.1}, "FINISHED", time=1010.0))
    close_parent(sweep, open_parent(sweep))
    with mlflow_server(tmp_path / "server") as server:
        courier = Courier(server.uri, sweep)
        courier.deliver()
        assert courier.waiting() == 0
        [refusal] = courier.refusals
        assert "a%23b.txt" in refusal
        [run] = [run for run in runs_of(server.uri, sweep.name) if "mlflow.parentRunId" in run.data.tags]
        assert run.info.status == "FINISHED"
        listed = [item.path for item in MlflowClient(server.uri).list_artifacts(run.info.run_id)]
        assert listed == ["plain.txt", "why?.txt"]
        tracking = TrackingServer(server.uri)
        assert tracking.download(run, "why?.txt", tmp_path).read_text() == "why?.txt"


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "/", "/etc/passwd", "..", "../a.txt", "a/../../b.txt", "%2e%2e/a.txt", "%252e%252e/a.txt", "..\\a.txt",
        "C:\\a.txt", "C:/a.txt", "a#b.txt", "a%23b.txt", "a?b.txt", "a\nb.txt", "a\0b.txt", "a\x1b[31m.txt", "%41.txt",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_that_a_server_refuses_is_refused_at_once(sweep: Path, name: str) -> None:
    with run_of(sweep) as manager:
        with pytest.raises(UsageError, match=r"expected a path such as plots/curve\.png") as caught:
            manager.log_text("text", name)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert told(sweep) == []


def test_what_cannot_be_kept_is_said_in_one_line(tmp_path: Path, sweep: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    os.mkfifo(tmp_path / "pipe")
    text: Any = b"bytes"
    with run_of(sweep) as manager:
        manager.log_text("text", "file.txt")
        manager.log_text("text", "folder/file.txt")
        cases: dict[str, Any] = {
            "'file.txt/deeper.txt' cannot be kept": lambda: manager.log_text("text", "file.txt/deeper.txt"),
            "'folder' cannot be kept": lambda: manager.log_text("text", "folder"),
            "File name too long": lambda: manager.log_text("text", "a" * 300),
            "expected text, got a bytes": lambda: manager.log_text(text, "a.txt"),
            "nothing.txt', which is neither": lambda: manager.log_artifact(tmp_path / "nothing.txt"),
            "pipe', which is neither": lambda: manager.log_artifact(tmp_path / "pipe"),
            "expected a path such as": lambda: manager.log_artifact(tmp_path / "a.txt", "../.."),
            "holds the run's own folder": lambda: manager.log_artifact(tmp_path),
            "expected a figure of matplotlib, got a list": lambda: manager.log_figure([1], "a.png"),
            "write curve.png": lambda: manager.log_figure(figure(), "curve"),
            "Format 'xyz' is not supported": lambda: manager.log_figure(figure(), "curve.xyz"),
        }
        for said, call in cases.items():
            with pytest.raises(SweeptrailError) as caught:
                call()
            assert said in str(caught.value)
            assert "\n" not in str(caught.value)
    assert told(sweep) == ["file.txt", "folder/file.txt"]
    assert {path.name for path in (sweep / NAME).iterdir()} == {"outbox.jsonl", "artifacts"}


def test_links_are_followed_and_files_of_the_run_itself_can_be_logged(
    tmp_path: Path, sweep: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "target.txt").write_text("target")
    (tmp_path / "here" / "link.txt").symlink_to(tmp_path / "target.txt")
    (tmp_path / "here" / "broken.txt").symlink_to(tmp_path / "gone.txt")
    monkeypatch.chdir(tmp_path / "here")
    with run_of(sweep) as manager:
        manager.log_artifact(".")
        assert manager.folder
        (manager.folder / "own.txt").write_text("own")
        manager.log_artifact(manager.folder / "own.txt")
        manager.log_artifact(manager.folder / "artifacts" / "own.txt")  # onto itself
    assert stored(store, sweep, tmp_path / "found") == {"here/link.txt": b"target", "own.txt": b"own"}


PLOTS = """
import matplotlib.pyplot as plt

def train(manager, *, lr: float = 0.1):
    figure, axes = plt.subplots()
    axes.plot([1, lr])
    manager.log_figure(figure, "curve.svg")
    manager.log_text(plt.get_backend(), "backend.txt")
    manager.log(validation_accuracy=lr)
"""


@pytest.mark.slow
def test_figures_are_drawn_in_workers_whatever_the_driver_draws_on(tmp_path: Path) -> None:
    (tmp_path / "plots.py").write_text(PLOTS)
    command = [sys.executable, "-m", "sweeptrail", "sweep", "plots:train", "lr=0.1,0.2", "--report", "false"]
    done = start(*command, cwd=tmp_path, MPLBACKEND="module://of_a_notebook", DISPLAY=":99")
    assert done.returncode == 0, done.stderr
    _, runs = family(tmp_path)
    for run in runs:
        found = files_of(client(tmp_path), run, tmp_path / run.info.run_id)
        assert found["backend.txt"].lower() == b"agg"
        assert b"<svg" in found["curve.svg"]
    assert len(runs) == 2
