"""`sweeptrail.sweep` in scripts: a function is swept in worker processes wherever it is defined."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import family, new_store, program, start
from tests.steered import begun
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.slow

TASK = """
import os
import sys
from pathlib import Path

import sweeptrail

SCALE = 10
with open("executed", "a") as file:
    file.write(f"{os.getpid()}\\n")

def helper(value):
    return SCALE * value

def train(manager, *, lr: float = 0.1, wide: bool = False):
    for epoch in manager.epochs(2):
        manager.log(validation_accuracy=helper(lr) / epoch)
    manager.log(process=os.getpid(), wide=wide)
"""

CALL = """
outcome = sweeptrail.sweep(
    train, {"lr": [0.1, 0.3, 0.2]}, goal="max:validation_accuracy", workers=2, report=False, register="none"
)
import json
print(json.dumps({
    "champion": dict(outcome.champion.params),
    "board": [row.runs[0].result.params["lr"] for row in outcome.leaderboard.rows],
    "results": [[result.index, result.status, dict(result.params), len(result.epochs)] for result in outcome.results],
    "processes": [result.metrics["process"] for result in outcome.results],
    "folder": str(outcome.folder),
    "run_id": outcome.run_id,
    "exit_code": outcome.exit_code,
    "me": os.getpid(),
    "torch": "torch" in sys.modules,
}))
"""

GUARDED = "if __name__ == '__main__':\n" + "\n".join(f"    {line}" for line in CALL.strip().splitlines())


def script(source: str, folder: Path, **more: str) -> tuple[Any, str]:
    """Run a script, and return what its last line says as JSON, and all that it has printed."""
    (folder / "script.py").write_text(source)
    new_store(folder)
    done = start(sys.executable, "script.py", cwd=folder, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.mark.parametrize("call", [CALL, GUARDED], ids=["bare", "guarded"])
def test_a_function_of_a_script_is_swept_in_worker_processes_and_the_outcome_says_all(
    call: str, tmp_path: Path
) -> None:
    told, _ = script(TASK + call, tmp_path)
    assert told["champion"] == {"lr": 0.3}
    assert told["board"] == [0.3, 0.2, 0.1]
    assert told["results"] == [
        [1, "FINISHED", {"lr": 0.1}, 2],
        [2, "FINISHED", {"lr": 0.3}, 2],
        [3, "FINISHED", {"lr": 0.2}, 2],
    ]
    assert told["me"] not in told["processes"]
    assert told["exit_code"] == 0
    assert not told["torch"]
    assert (tmp_path / "executed").read_text() == f"{told['me']}\n"  # the script has run once
    parent, children = family(tmp_path)
    assert parent.info.run_id == told["run_id"]
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 4
    assert Path(told["folder"], "results.csv").exists()
    assert Path(told["folder"]).parent == tmp_path / "runs"


TWICE = """
import threading
options = {"report": False, "register": "none", "workers": 1}
first = sweeptrail.sweep(train, {"lr": [0.1]}, **options)
found = []
thread = threading.Thread(target=lambda: found.append(sweeptrail.sweep(train, {"lr": [0.2]}, **options)))
thread.start()
thread.join()
third = sweeptrail.sweep(train, {"lr": [0.1, 0.2]}, resume=first.folder, **options)
import json, signal
outcomes = [first, *found, third]
print(json.dumps({
    "folders": len({outcome.folder for outcome in outcomes}),
    "results": [[dict(result.params) for result in outcome.results] for outcome in outcomes],
    "same": first.results[0].metrics == third.results[0].metrics,
    "handled": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "children": __import__("psutil").Process().children() == [],
}))
"""


def test_sweeps_follow_each_other_in_one_process_also_in_a_thread_and_go_on(tmp_path: Path) -> None:
    told, _ = script(TASK + TWICE, tmp_path)
    assert told["folders"] == 2
    assert told["results"] == [[{}], [{}], [{"lr": 0.1}, {"lr": 0.2}]]
    assert told["same"]
    assert told["handled"]
    assert told["children"]


HANGING = """
import sweeptrail

def train(manager, *, lr: float = 0.1):
    import time
    from pathlib import Path
    for epoch in manager.epochs(2):
        manager.log(loss=lr)
        if epoch == 2:
            Path(f"hangs {lr}").touch()
            time.sleep(10_000)

try:
    sweeptrail.sweep(train, {"lr": [0.1, 0.2]}, report=False, register="none", workers=2)
except KeyboardInterrupt as error:
    print("interrupted", flush=True)
    raise SystemExit(7)
"""


def test_ctrl_c_raises_keyboard_interrupt_and_the_runs_are_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(HANGING)
    new_store(tmp_path)
    with begun(sys.executable, "script.py", cwd=tmp_path, output=tmp_path / "output") as process:
        wait_for(lambda: len(list(tmp_path.glob("hangs *"))) == 2 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 7, (tmp_path / "output").read_text()
    output = (tmp_path / "output").read_text()
    assert output.splitlines()[-1] == "interrupted"
    assert "Traceback" not in output
    synced = program("sync", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["KILLED"] * 3


REFUSED = """
import json, threading
from pathlib import Path

def told(*arguments, **options):
    try:
        sweeptrail.sweep(*arguments, **options)
    except sweeptrail_error as error:
        return str(error)
    return "nothing"

sweeptrail_error = __import__("sweeptrail.errors").errors.UsageError
lock = threading.Lock()

def holding(manager, *, lr: float = 0.1):
    lock.acquire()

class Model:
    pass

print(json.dumps([
    told(train, {"lr": 0.1}),
    told(train, {"lr": "0.1"}),
    told(train, {"lr": []}),
    told(train, {"lr": [0.1, 0.1]}),
    told(train, {"lr": [[1, 2]]}),
    told(train, {"lrs": [0.1]}),
    told(train, {"wide": [1]}),
    told(train, {"lr": [0.1]}, goal="accuracy"),
    told(train, {"lr": [0.1]}, worker=2),
    told(train, {"lr": [0.1]}, engine="threads"),
    told(train, {"lr": [float("nan")]}),
    told(Model, {}),
    told("absent:train", {}),
    told(holding, {"lr": [0.1]}),
    told(train, {"lr": [0.1]}, shared=[1, 2]),
    told(train, {"lr": [0.1]}, shared={"lock": lock}),
    told(train, {"lr": [0.1]}, valid=lambda lr, wide: False),
    told(train, {"lr": [0.1]}, valid=lambda lr, width: True),
    told(train, {"lr": [0.1]}, resume="nowhere"),
]))
"""


def test_what_cannot_be_swept_is_a_usage_error_and_leaves_nothing(tmp_path: Path) -> None:
    told, _ = script(TASK + REFUSED, tmp_path)
    expected = [
        "lr: expected a list of values, got 0.1; write [0.1] for a single value",
        "lr: expected a list of values, got '0.1'; write ['0.1'] for a single value",
        "lr: expected",
        "lr: 0.1 is given twice",
        "lr: expected numbers, text, true or false, or None, got [1, 2]; write it as text",
        "lrs: there is no such setting; did you mean lr?",
        "wide: expected true or false, got '1'",
        "goal: expected max:METRIC or min:METRIC, or auto, got 'accuracy'",
        "worker: there is no such setting; did you mean workers?",
        "engine: expected any of processes, serial, ray, got 'threads'",
        "lr: expected numbers, got 'nan'",
        "task Model: expected a function, got a type",
        "task: expected a module that can be imported, got 'absent:train'; there is no module absent",
        "task holding: it cannot be sent to other processes: TypeError: cannot pickle '_thread.lock' object",
        "task train: shared: expected a mapping of names to arrays, got a list",
        "task train: shared: lock cannot be sent to other processes",
        "no combination is valid: valid() refuses them all",
        "valid(lr=0.1) raised TypeError",
        "resume: ",
    ]
    for found, wanted in zip(told, expected, strict=True):
        assert found.startswith(wanted), found
        assert "\n" not in found
    assert not list((tmp_path / "runs").iterdir())


SERIAL = """
import json, threading
lock, seen = threading.Lock(), []

def train(manager, *, lr: float = 0.1):
    with lock:
        seen.append(lr)
    manager.log(loss=lr)

sweeptrail.sweep(train, {"lr": [0.1, 0.2]}, engine="serial", report=False, register="none")
print(json.dumps(seen))
"""


def test_the_serial_engine_calls_the_function_itself_which_need_not_be_sent_anywhere(tmp_path: Path) -> None:
    assert script(TASK + SERIAL, tmp_path)[0] == [0.1, 0.2]


def test_a_sweep_needs_no_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    uri = f"sqlite:///{tmp_path}/elsewhere/mine.db"
    told, _ = script(TASK + CALL, tmp_path, MLFLOW_TRACKING_URI=uri)
    assert told["run_id"]
    assert (tmp_path / "elsewhere" / "mine.db").exists()
