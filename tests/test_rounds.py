"""How the courier tells a round over a network, and what it takes for an answer."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from sweeptrail.errors import DeliveryError, RefusedError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.batching import LIMITS, batches
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.entries import Entry, Metrics, Note, Params, Tags
from sweeptrail.tracking.client_errors import answering
from sweeptrail.tracking.facts import Expected
from tests import written as entries
from tests.test_courier import SWEEP, Counting, children, run_id, store, write_parent, write_run
from tests.waiting import wait_for


class Distant(Counting):
    """A store that is told over a network, as far as the courier knows; it keeps a list of what it was asked."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.is_remote = True
        self.asked: list[str] = []
        self.forgotten: set[str] = set()
        """Which files it will say that it took without keeping them, once each."""

    def log(self, run_id: str, **what: Any) -> None:
        super().log(run_id, **what)
        self.asked.append("log")

    def upload(self, run_id: str, path: Path, to: str) -> int:
        self.asked.append(f"upload {path.name}")
        if path.name in self.forgotten:
            self.forgotten.remove(path.name)
            return path.stat().st_size
        return super().upload(run_id, path, to)

    def confirm(self, run_id: str, told: Expected) -> None:
        super().confirm(run_id, told)
        self.asked.append("confirm")

    def confirm_files(self, run_id: str, folder: str, sizes: Mapping[str, int]) -> None:
        super().confirm_files(run_id, folder, sizes)
        self.asked.append(f"list {folder}")

    def close(self, run_id: str, status: str, time: int) -> None:
        super().close(run_id, status, time)
        self.asked.append("close")


def distant(tmp_path: Path) -> tuple[Courier, Distant]:
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.server = server = Distant(store(tmp_path))
    return courier, server


def write_end(folder: Path, parent: journal.Journal) -> None:
    for number, name in enumerate(["results.csv", "leaderboard.csv", "runs.json"], 1):
        (folder / name).write_text("x" * number)
        parent.append(entries.artifact(name))
        parent.append(entries.note(f"number {number}, [one](run:{SWEEP}/1)"))
        parent.append(entries.metrics({"champion_accuracy": 0.1 * number}, step=number, time=float(number)))
        parent.append(entries.tags({"champion": f"run {number}"}))
        parent.append(entries.link("champion_run_id", f"{SWEEP}/1"))
    parent.append(entries.closed("FINISHED", time=1020.0))


def test_a_round_is_told_in_one_request_and_its_files_and_asked_for_once_before_the_run_is_closed(
    tmp_path: Path,
) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_run(tmp_path / "sweep")
    courier, server = distant(tmp_path)
    courier.deliver()
    server.asked.clear()
    write_end(tmp_path / "sweep", parent)
    courier.deliver()
    told, asked = server.asked[:4], server.asked[4:]
    assert sorted(told) == ["log", "upload leaderboard.csv", "upload results.csv", "upload runs.json"]
    assert sorted(asked[:2]) == ["confirm", "list "]
    assert asked[2:] == ["close"]
    run = MlflowClient(store(tmp_path)).get_run(run_id(courier))
    [child] = children(MlflowClient(store(tmp_path)))
    assert (run.data.tags["champion"], run.data.tags["champion_run_id"]) == ("run 3", child.info.run_id)
    assert run.data.tags["mlflow.note.content"].startswith("number 3, [one](#/experiments/0/runs/")
    assert run.data.metrics == {"champion_accuracy": pytest.approx(0.3)}
    assert run.info.status == "FINISHED"


def test_a_run_whose_file_the_server_did_not_keep_is_not_closed_but_told_again(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    courier, server = distant(tmp_path)
    server.forgotten = {"runs.json"}
    write_end(tmp_path / "sweep", parent)
    with pytest.raises(DeliveryError, match="has not got what it said it took"):
        courier.deliver()
    assert "close" not in server.asked
    assert courier.waiting() > 15
    courier.deliver()
    assert courier.waiting() == 0
    run = MlflowClient(store(tmp_path)).get_run(run_id(courier))
    assert run.info.status == "FINISHED"
    assert (Path(run.info.artifact_uri or "") / "runs.json").read_text() == "xxx"


def test_a_round_that_broke_off_does_not_upload_again_what_was_uploaded(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    courier, server = distant(tmp_path)
    write_end(tmp_path / "sweep", parent)
    log = server.log

    def fail(*_: Any, **__: Any) -> None:
        wait_for(lambda: len(server.uploads) == 3)
        raise DeliveryError("no answer")

    server.log = fail  # type: ignore[method-assign]  # a network that breaks down at one moment
    with pytest.raises(DeliveryError, match="no answer"):
        courier.deliver()
    server.log = log  # type: ignore[method-assign]
    courier.deliver()
    assert courier.waiting() == 0
    assert sorted(server.uploads) == ["leaderboard.csv", "results.csv", "runs.json"]
    assert "list " in server.asked


def test_metrics_that_come_after_later_ones_of_the_same_name_are_confirmed(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    for step in (5, 2):
        parent.append(entries.metrics({"loss": 1.0 / step}, step=step, time=float(step)))
    courier, server = distant(tmp_path)
    courier.deliver()
    assert (courier.waiting(), server.asked) == (0, ["log", "confirm"])


def test_of_thousands_of_values_none_is_read_again_to_see_that_the_server_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = write_parent(tmp_path / "sweep")
    for step in range(2500):
        parent.append(entries.metrics({"loss": 1.0, "batch_loss": 1.0}, step=step, time=float(step)))
    courier, server = distant(tmp_path)
    read: list[str] = []
    monkeypatch.setattr(server._client, "get_metric_history", lambda run_id, name: read.append(name))
    courier.deliver()
    assert (courier.waiting(), read) == (0, [])
    assert server.asked == ["log", "confirm"] * 6


def test_metrics_that_the_server_has_not_kept_are_sent_again(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    courier, server = distant(tmp_path)
    courier.deliver()
    for step in (5, 2):
        parent.append(entries.metrics({"loss": 1.0 / step}, step=step, time=float(step)))
    log, server.log = server.log, lambda *_, **__: None  # type: ignore[method-assign]  # an empty answer is a yes
    with pytest.raises(DeliveryError, match="has not got what it said it took"):
        courier.deliver()
    server.log = log  # type: ignore[method-assign]
    courier.deliver()
    history = MlflowClient(store(tmp_path)).get_metric_history(run_id(courier), "loss")
    assert sorted(metric.step for metric in history) == [2, 5]


def test_each_request_is_a_sign_of_life(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_end(tmp_path / "sweep", parent)
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    seen: list[float] = []

    class Watched(Counting):
        def upload(self, run_id: str, path: Path, to: str) -> int:
            seen.append(courier.answered)
            return super().upload(run_id, path, to)

    courier.server = Watched(store(tmp_path))
    began = time.monotonic()
    courier.deliver()
    assert began < seen[0] < seen[1] < seen[2] < courier.answered


def test_the_sweep_is_closed_when_its_runs_are(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_end(tmp_path / "sweep", parent)
    for index in (1, 2, 3):
        write_run(tmp_path / "sweep", index)
    courier, server = distant(tmp_path)
    closed: list[str] = []
    close = server.close

    def remember(run_id: str, status: str, time: int) -> None:
        closed.append(run_id)
        close(run_id, status, time)

    server.close = remember  # type: ignore[method-assign]  # the store itself keeps no history of a status
    courier.deliver()
    assert len(closed) == 4
    assert closed[-1] == run_id(courier)


def names_in(entry: Any) -> list[str]:
    return [] if isinstance(entry, Note) else list(entry.values)


def test_what_is_logged_fits_the_limits_of_a_request_and_keeps_its_order() -> None:
    told: list[Entry] = [
        entries.metrics({f"m{number}": 1.0 for number in range(1500)}, step=1, time=1.0),
        entries.params({f"p{number}": 1 for number in range(150)}),
        entries.note("text"),
        *(entries.tags({f"t{number}": "", "last": str(number)}) for number in range(120)),
        entries.metrics({"m": 2.0}, step=2, time=2.0),
    ]
    requests = list(batches((entry, offset) for offset, entry in enumerate(told)))
    sent = [(offset, name) for request in requests for entry, offset in request for name in names_in(entry)]
    assert sent == [(offset, name) for offset, entry in enumerate(told) for name in names_in(entry)]
    for request in requests:
        sizes = {
            kind: sum(len(names_in(entry)) for entry, _ in request if isinstance(entry, cls))
            for kind, cls in (("metrics", Metrics), ("params", Params), ("tags", Tags))
        }
        assert sum(sizes.values()) <= 1000
        assert all(sizes[kind] <= limit for kind, limit in LIMITS.items())
    assert len(requests) <= 6


POOL = "QueuePool limit of size 20 overflow 10 reached (Background on this error at: https://sqlalche.me/e/21/3o7r)"
DATA = "(psycopg2.errors.DataError) too long (Background on this error at: https://sqlalche.me/e/21/9h9h)"


@pytest.mark.parametrize(
    ("message", "expected"), [(POOL, DeliveryError), (DATA, RefusedError), ("no such metric", RefusedError)]
)
def test_a_database_that_fails_is_told_again_and_data_that_it_never_takes_are_not(
    message: str, expected: type[Exception]
) -> None:
    with pytest.raises(expected), answering("http://127.0.0.1:1"):
        raise MlflowException(message, BAD_REQUEST)


def test_taking_the_same_again_and_again_while_a_file_fails_is_no_sign_of_life(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_end(tmp_path / "sweep", parent)
    courier, server = distant(tmp_path)

    def fail(*_: Any) -> int:
        raise DeliveryError("the store is away")

    server.upload = fail  # type: ignore[assignment,method-assign]  # a store that is away while the server answers
    with pytest.raises(DeliveryError):
        courier.deliver()
    answered = courier.answered
    with pytest.raises(DeliveryError):
        courier.deliver()
    assert courier.answered == answered
    assert server.num_logs >= 2
