"""Who delivers lives on when the training is gone, however that ended, and ends when there is nothing left to do."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.outboxes import Outboxes, plain, runs_in, values
from tests.proxy import Proxy
from tests.server import Server
from tests.waiting import wait_for

LOGGED = """
    import mlflow, os, sys, threading, time
    mlflow.set_experiment(os.environ["NAME"])
    run = mlflow.start_run()
    for number in range(100):
        mlflow.log_metric("loss", number, step=number)
    print("run", run.info.run_id, flush=True)
"""

WAIT = "    threading.Event().wait()\n"

ENDS = {
    "killed": (WAIT, "KILLED"),
    "terminated": (WAIT, "KILLED"),
    "os._exit": ("    os._exit(3)\n", "KILLED"),
    "clean exit": ("", "FINISHED"),
    "exit by sys.exit": ("    sys.exit(2)\n", "FINISHED"),  # as with plain MLflow
    "exception": ("    raise ValueError\n", "FINISHED"),  # as with plain MLflow
    "exception in the block": ("    with run: raise ValueError\n", "FAILED"),
    "ended as failed": ("    mlflow.end_run('FAILED')\n", "FAILED"),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_a_training_had_logged_is_delivered_with_the_right_status(
    box: Outboxes, tracking: Server, end: str
) -> None:
    code, status = ENDS[end]
    script = box.begin(LOGGED + code, NAME=end)
    script.said("run")
    if code == WAIT:
        script.process.send_signal(signal.SIGKILL if end == "killed" else signal.SIGTERM)
    script.process.wait()
    box.settle()
    [run] = runs_in(tracking.uri, end)
    assert (run.info.status, values(tracking.uri, run, "loss")) == (status, Counter(range(100)))
    assert run.info.end_time


def test_a_training_that_is_killed_while_the_server_is_away_is_delivered_when_it_comes(
    box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.stop()
    script = box.begin(LOGGED + WAIT, NAME="away")
    script.said("run")
    script.process.kill()
    script.process.wait()
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, "away")
    assert (run.info.status, values(tracking.uri, run, "loss")) == ("KILLED", Counter(range(100)))


def test_a_courier_that_is_killed_is_followed_by_another_one(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.mode = "hang"
    script = box.begin(
        LOGGED
        + """
    while not os.path.exists("again"):
        time.sleep(0.01)
    for number in range(100, 200):
        mlflow.log_metric("loss", number, step=number)
        time.sleep(0.03)  # whoever writes looks every two seconds
    """,
        NAME="followed",
    )
    script.said("run")
    wait_for(lambda: proxy.in_flight)  # in the middle of its work
    box.courier().kill()
    proxy.mode = "pass"
    proxy.release()
    (script.folder / "again").touch()
    assert script.process.wait() == 0, script.errors()
    box.settle()
    [run] = runs_in(tracking.uri, "followed")
    assert (run.info.status, values(tracking.uri, run, "loss")) == ("FINISHED", Counter(range(200)))


def test_a_courier_that_is_killed_before_it_knows_the_id_of_a_run_leaves_one_run(
    box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.once("hang", "/runs/create")
    script = box.begin(LOGGED + WAIT, NAME="one run")
    script.said("run")
    wait_for(lambda: "hang" in proxy.faults())
    box.courier().kill()
    proxy.release()  # the server makes the run, and nobody hears its id
    wait_for(lambda: runs_in(tracking.uri, "one run"))
    script.process.kill()
    script.process.wait()
    box.run("""
    import mlflow
    mlflow.set_experiment("one run")
    """)
    box.settle()
    [run] = runs_in(tracking.uri, "one run")
    assert (run.info.status, values(tracking.uri, run, "loss")) == ("KILLED", Counter(range(100)))


def test_processes_that_begin_at_once_start_one_courier(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.mode = "hang"  # so that whoever delivers goes on
    scripts = [box.begin(LOGGED + WAIT, NAME="at once") for _ in range(4)]
    for script in scripts:
        script.said("run")
    wait_for(lambda: proxy.in_flight)
    box.courier()
    for script in scripts:
        script.process.kill()
    proxy.mode = "pass"
    proxy.release()
    box.settle()
    assert [run.info.status for run in runs_in(tracking.uri, "at once")] == ["KILLED"] * 4


def test_a_courier_ends_when_nothing_is_left(box: Outboxes) -> None:
    box.run(LOGGED, NAME="ends")
    box.settle()
    wait_for(lambda: not box.couriers())
    assert "Traceback" not in (box.box / "courier.log").read_text()


def test_a_courier_is_no_child_of_the_training(box: Outboxes, proxy: Proxy) -> None:
    proxy.mode = "hang"
    script = box.begin(LOGGED + WAIT, NAME="childless")
    script.said("run")
    wait_for(lambda: proxy.in_flight)
    assert box.courier().ppid() != script.process.pid


def test_a_process_that_was_killed_ends_the_run_when_the_others_have_left_it_open(
    box: Outboxes, tracking: Server
) -> None:
    """As when the one of eight that began the run is killed, and the others end by themselves."""
    code = """
    import mlflow, os, time
    client = mlflow.MlflowClient()
    client.log_metric(os.environ["RUN"], "other", 1)
    print("logged it", flush=True)
    while not os.path.exists("end"):
        time.sleep(0.01)
    """
    first = box.begin(LOGGED + WAIT, NAME="left open")
    run_id = first.said("run")
    other = box.begin(code, RUN=run_id)
    other.said("logged")
    first.process.kill()
    first.process.wait()
    box.settle_run(run_id)
    [run] = runs_in(tracking.uri, "left open")
    assert run.info.status == "RUNNING"
    (other.folder / "end").touch()
    assert other.process.wait() == 0
    box.settle()
    [run] = runs_in(tracking.uri, "left open")
    assert run.info.status == "KILLED"


def test_runs_that_the_server_refuses_keep_no_others_waiting(box: Outboxes, tracking: Server) -> None:
    client = plain(tracking.uri)
    gone = client.create_experiment("is gone")
    code = """
    import mlflow, os
    for _ in range(3):
        with mlflow.start_run(experiment_id=os.environ["GONE"]):
            mlflow.log_metric("loss", 1)
    os.kill(os.getpid(), 9)
    """
    box.run("""
    import mlflow
    mlflow.set_experiment("is gone")
    """)
    client.delete_experiment(gone)
    script = box.begin(code, GONE=gone)
    script.process.wait()
    box.run(LOGGED, NAME="not gone")
    wait_for(lambda: [run.info.status for run in runs_in(tracking.uri, "not gone")] == ["FINISHED"])
    client.restore_experiment(gone)
    box.settle()
    assert len(runs_in(tracking.uri, "is gone")) == 3


def test_a_signal_may_be_handled_within_a_write(box: Outboxes, tracking: Server) -> None:
    box.run(
        """
    import mlflow, os, signal, threading
    mlflow.set_experiment("signals")
    run = mlflow.start_run().info.run_id
    client = mlflow.MlflowClient()  # the fluent functions import something in each call, which no handler may
    calls = []
    def handle(*_):  # which may be called within itself
        calls.append(1)
        number = len(calls) - 1
        client.log_metric(run, "handled", number, step=number)
        client.log_param(run, f"param {number}", 1)
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    number = 0
    while len(calls) < 200:
        client.log_metric(run, "logged", number, step=number)
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(number, len(calls))
    with open(os.environ["COUNTS"], "w") as file:
        file.write(f"{number} {len(calls)}")
    """,
        COUNTS=str(box.folder / "counts"),
    )
    box.settle()
    [run] = runs_in(tracking.uri, "signals")
    logged, handled = map(int, Path(box.folder, "counts").read_text().split())
    assert values(tracking.uri, run, "logged") == Counter(range(logged))
    assert values(tracking.uri, run, "handled") == Counter(range(handled))
