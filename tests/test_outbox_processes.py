"""Many processes and threads write to one run, and are killed: nothing is lost, and nothing arrives twice."""

import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.commands import start
from tests.outbox_ddp import PROCESSES, THREADS, VALUES
from tests.outboxes import Outboxes, runs_in, values
from tests.server import Server
from tests.waiting import wait_for

KILLS = 5


def test_eight_processes_with_threads_write_to_one_run(box: Outboxes, tracking: Server) -> None:
    script = str(Path(__file__).with_name("outbox_ddp.py"))
    done = start(sys.executable, script, "eight", cwd=box.folder, **box.environment())
    assert done.returncode == 0, done.stderr
    box.settle()
    [run] = runs_in(tracking.uri, "eight")
    assert run.info.status == "FINISHED"
    assert values(tracking.uri, run, "value") == Counter(range(-1, PROCESSES * THREADS * VALUES))
    assert len(run.data.params) == PROCESSES * THREADS


def test_what_was_logged_before_a_kill_is_on_the_server(box: Outboxes, tracking: Server, fault_seed: int) -> None:
    draw = random.Random(fault_seed)
    name = f"kills {fault_seed}"
    told = []
    for number in range(KILLS):
        script = box.begin(
            """
    import mlflow, os, threading, time
    mlflow.set_experiment(os.environ["NAME"])
    run = mlflow.start_run(run_name=os.environ["NUMBER"])
    told = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def log(thread):
        number = 0
        while True:
            mlflow.log_metric(f"thread {thread}", number, step=number, run_id=run.info.run_id)
            os.write(told, f"{thread} {number}\\n".encode())
            number += 1
            time.sleep(0.004)
    for thread in range(4):
        threading.Thread(target=log, args=(thread,), daemon=True).start()
    threading.Event().wait()
    """,
            NAME=name,
            NUMBER=str(number),
        )
        told.append(script.folder / "told")
        wait_for(told[-1].exists)
        time.sleep(draw.uniform(0.1, 0.5))  # whenever it is: it must not matter
        script.process.kill()
        script.process.wait()
    box.settle()
    runs = {run.info.run_name: run for run in runs_in(tracking.uri, name)}
    assert {run.info.status for run in runs.values()} == {"KILLED"}
    for number, path in enumerate(told):
        for thread in range(4):
            arrived = values(tracking.uri, runs[str(number)], f"thread {thread}")
            words = [line.split() for line in path.read_text().splitlines()]
            assert arrived.keys() >= {float(value) for name, value in words if name == str(thread)}
            assert set(arrived.values()) <= {1}


def test_a_fork_from_a_thread_that_logs_goes_on_in_the_child(box: Outboxes, tracking: Server) -> None:
    box.run("""
    import mlflow, os, threading, time
    mlflow.set_experiment("forks")
    run = mlflow.start_run()
    client = mlflow.MlflowClient()  # the fluent functions import in each call, which a fork may cut
    done = threading.Event()
    def busy(thread):
        number = 0
        while not done.is_set():
            client.log_metric(run.info.run_id, f"busy {thread} {number % 50}", number)
            client.get_run(run.info.run_id)
            number += 1
            time.sleep(0.001)
    threads = [threading.Thread(target=busy, args=(thread,)) for thread in range(3)]
    for each in threads: each.start()
    for number in range(30):
        if (child := os.fork()) == 0:
            client.log_metric(run.info.run_id, "child", number)
            client.log_param(run.info.run_id, f"child {number}", number)
            client.get_run(run.info.run_id)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    done.set()
    for each in threads: each.join()
    """)
    box.settle()
    [run] = runs_in(tracking.uri, "forks")
    assert run.info.status == "FINISHED"
    assert values(tracking.uri, run, "child") == Counter(range(30))
    assert len(run.data.params) == 30
