"""Nothing is lost and nothing arrives twice, whatever a real tracking server does."""

import random
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.tracking import rest, tags
from tests.proxy import FAULTS, Proxy, proxy_before
from tests.server import Server
from tests.small_sweep import (
    EPOCHS,
    STATUSES,
    assert_arrived,
    close_parent,
    deliver_at_last,
    open_parent,
    open_run,
    runs_of,
    write_run,
    write_sweep,
)
from tests.waiting import FOR_EVER, PATIENCE, wait_for

pytestmark = pytest.mark.slow

LENGTHS = {"flaky": 50, "hang": 2}
"""How many requests these outages last; each that hangs costs a second."""

WAITS = "the tracking server does not answer; everything is kept on disk and sent later"
CAUGHT_UP = "the tracking server answers again; everything has been sent"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request that hangs cost one second, not ten."""
    monkeypatch.setattr(rest, "TIMEOUT", 1.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request that hangs do so for ever."""
    monkeypatch.setattr(rest, "TIMEOUT", FOR_EVER)


@pytest.mark.parametrize("mode", [*FAULTS, "flaky"])
@pytest.mark.usefixtures("impatient")
def test_an_outage_loses_nothing_and_doubles_nothing(
    tracking: Server, tmp_path: Path, mode: str, fault_seed: int
) -> None:
    folder = tmp_path / f"{mode}-{fault_seed}"
    moment = random.Random(fault_seed)
    with proxy_before(tracking.port, fault_seed) as proxy:
        client = MlflowClient(tracking.uri)
        adopt = {}
        if moment.random() < 0.5:
            adopted = client.create_run(client.create_experiment(folder.name), start_time=1)
            adopt = {"uri": proxy.uri, "run_id": adopted.info.run_id}
        write_sweep(folder, adopt=adopt)
        proxy.outage(mode, after=moment.randrange(25), requests=LENGTHS.get(mode) or moment.randint(1, 4))
        failures = deliver_at_last(proxy, Courier(proxy.uri, folder), fresh=moment.random() < 0.5)
        proxy.settle()
        print(f"{failures} attempts failed; {len(proxy.log)} requests: {proxy.log}")
        assert failures > 0 or mode in ("slow", "empty", "cut")  # which may have done the work at the first attempt
        assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)
        num_requests = len(proxy.log)
        assert Courier(proxy.uri, folder).deliver() == 0
        assert len(proxy.log) == num_requests


@pytest.mark.parametrize("mode", [*FAULTS, "flaky"])
@pytest.mark.usefixtures("impatient")
def test_the_courier_beside_a_sweep_says_once_that_it_waits_and_once_that_it_caught_up(
    tracking: Server, tmp_path: Path, mode: str
) -> None:
    folder = tmp_path / f"beside-{mode}"
    said: list[str] = []
    with proxy_before(tracking.port, seed=1) as proxy:
        parent = open_parent(folder)
        courier = BackgroundCourier(Courier(proxy.uri, folder), said.append)
        courier.start()
        wait_for(lambda: courier.waiting() == 0)
        proxy.mode = mode
        write_run(folder, 1)
        if mode not in ("slow", "flaky"):
            wait_for(lambda: len(proxy.faults()) >= 2 and len(said) == 1)
        write_run(folder, 2)
        close_parent(folder, parent)
        proxy.mode = "pass"
        proxy.release()
        courier.finish(PATIENCE)
        proxy.settle()
    assert courier.waiting() == 0
    assert courier.problem == ""
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)
    outages = {"slow": 0, "flaky": len(said) // 2}.get(mode, 1)
    assert [text.partition(" (")[0] for text in said] == [WAITS, CAUGHT_UP] * outages


@pytest.mark.parametrize("which", ["parent", "child"])
@pytest.mark.parametrize("fresh", [False, True], ids=["same courier", "fresh courier"])
def test_a_lost_answer_to_a_creation_makes_no_second_run(
    tracking: Server, tmp_path: Path, which: str, fresh: bool
) -> None:
    folder = tmp_path / f"lost-{which}-{fresh}"
    open_parent(folder).close()
    with proxy_before(tracking.port, seed=0) as proxy:
        courier = Courier(proxy.uri, folder)
        if which == "child":
            courier.deliver()
            open_run(folder, 1)
        proxy.once("lost", "/runs/create")
        assert deliver_at_last(proxy, courier, fresh=fresh) == 1
    identities = [run.data.tags[tags.IDENTITY] for run in runs_of(tracking.uri, folder.name)]
    assert sorted(identities) == [folder.name, f"{folder.name}/1"][: 1 + (which == "child")]


@pytest.mark.usefixtures("impatient")
def test_a_creation_that_the_server_carries_out_long_after_it_was_given_up_leaves_no_second_run(
    tracking: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "late"
    with proxy_before(tracking.port, seed=0) as proxy:
        parent = open_parent(folder)
        proxy.once("hang", "/runs/create")
        courier = Courier(proxy.uri, folder)
        with pytest.raises(DeliveryError):
            courier.deliver()
        courier.deliver()
        proxy.release()
        proxy.settle()
        assert len(runs_of(tracking.uri, folder.name)) == 2
        for index in STATUSES:
            write_run(folder, index)
        close_parent(folder, parent)
        courier.deliver()
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)


@pytest.mark.parametrize("after", range(6))
def test_the_params_of_an_adopted_run_stand_whenever_the_delivery_stops(
    tracking: Server, tmp_path: Path, after: int
) -> None:
    folder = tmp_path / f"adopted-{after}"
    client = MlflowClient(tracking.uri)
    adopted = client.create_run(client.create_experiment(folder.name))
    client.log_param(adopted.info.run_id, "lr", "given by hand")
    with proxy_before(tracking.port, seed=0) as proxy:
        open_parent(folder, adopt={"uri": proxy.uri, "run_id": adopted.info.run_id}).close()
        proxy.outage("lost", after=after, requests=1)
        deliver_at_last(proxy, Courier(proxy.uri, folder), fresh=True)
    [run] = runs_of(tracking.uri, folder.name)
    assert run.data.params == {"lr": "given by hand", "epochs": str(EPOCHS)}


@pytest.mark.usefixtures("patient")
def test_training_goes_on_while_a_request_hangs(tracking: Server, tmp_path: Path) -> None:
    folder = tmp_path / "hanging"
    with proxy_before(tracking.port, seed=0) as proxy:
        proxy.mode = "hang"
        courier = BackgroundCourier(Courier(proxy.uri, folder), print)
        parent = open_parent(folder)
        courier.start()
        wait_for(lambda: proxy.in_flight == 1)
        for index in STATUSES:
            write_run(folder, index)
        close_parent(folder, parent)
        # Whoever had waited for the courier would be waiting still: its one request hangs.
        assert len(proxy.log) == proxy.in_flight == 1
        proxy.mode = "pass"
        proxy.release()
        courier.finish(PATIENCE)
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)


@pytest.mark.parametrize("mode", ["hang", "refuse", "error500", "empty"])
@pytest.mark.usefixtures("patient")
def test_the_end_of_a_sweep_waits_for_an_absent_server_no_longer_than_it_should(
    tracking: Server, tmp_path: Path, mode: str
) -> None:
    folder = tmp_path / "sweep"
    write_sweep(folder)
    with proxy_before(tracking.port, seed=0) as proxy:
        proxy.mode = mode
        finish(proxy.uri, folder)
        assert Courier(proxy.uri, folder).waiting() > 10


@pytest.mark.usefixtures("patient")
def test_the_end_of_a_sweep_does_not_wait_for_a_server_that_takes_no_connection(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    write_sweep(folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # and never accepts
        finish(f"http://127.0.0.1:{listener.getsockname()[1]}", folder)


def test_the_end_of_a_sweep_does_not_wait_for_a_database_that_somebody_has_locked(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    write_sweep(folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        finish(f"sqlite:///{tmp_path}/mlflow.db", folder)


def finish(uri: str, folder: Path) -> None:
    """End a sweep that gives the server a second, where whoever waited for the courier would wait for ever."""
    courier = BackgroundCourier(Courier(uri, folder), print)
    courier.start()
    courier.finish(1.0)


def test_a_server_that_was_never_there_gets_everything_when_it_comes(tracking: Server, tmp_path: Path) -> None:
    folder = tmp_path / "never"
    said: list[str] = []
    proxy = Proxy(tracking.port, seed=0)
    write_sweep(folder)
    courier = BackgroundCourier(Courier(proxy.uri, folder), said.append)
    courier.start()
    wait_for(lambda: len(said) == 1)
    courier.finish(0.5)
    assert courier.waiting() == sum(len(journal.read(path)) for path in folder.rglob(journal.FILE_NAME))
    assert "Connection refused" in said[0]
    proxy.start()
    try:
        assert Courier(proxy.uri, folder).deliver() > 10
    finally:
        proxy.stop()
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)
