"""Bad input to sweeps of tasks: one clear line and nothing left behind, or a FAILED run with its reason."""

import sys
from pathlib import Path

import pandas
import pytest
from click.testing import CliRunner, Result

from sweeptrail.cli import main
from tests.commands import client, family, new_store, program, start
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

GOOD = """
import functools
from typing import Literal

def train(manager, *, lr: float = 0.1, depth: int = 1, kind: Literal["a", "b"] = "a"):
    for epoch in manager.epochs(2):
        manager.log(validation_accuracy=lr / epoch)

def needs(manager, *, width: int): manager.log(score=width)
def positional(manager, lr, depth=2): ...
def everything(manager, **params): ...
def nothing(): ...
def listed(manager, *, lr: list[float] = ()): ...
def lost(manager, *, lr: "Absent" = 1): ...
def generator(manager, *, lr: float = 0.1): yield
async def coroutine(manager, *, lr: float = 0.1): ...
small = lambda manager, *, lr=0.1: manager.log(score=lr)
partial = functools.partial(train, depth=2)

class Model:
    def __init__(self, manager): ...

SPACE = {"lr": [0.1]}
"""


def module(name: str, source: str) -> None:
    Path(f"{name}.py").write_text(source)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    module("good", GOOD)
    return tmp_path


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sweep", "--tracking-uri", "sqlite:///mlflow.db", *arguments])


def assert_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not Path("mlflow.db").exists()
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("absent:train lr=0.1", "task: expected a module that can be imported, got 'absent:train'; there is no module"),
        ("good:tarin lr=0.1", "task good:tarin: good has no tarin; did you mean train?"),
        ("good.train lr=0.1", "'good.train': expected NAME=VALUES"),
        ("good.py:train", "task: expected a module that can be imported, got 'good.py:train'"),
        ("good:", "task: expected MODULE:FUNCTION, got 'good:'; write digits:train for the function train"),
        (":train", "task: train was a function of a script or a notebook, which is not stored"),
        ("./good:train", "task: expected MODULE:FUNCTION, got './good:train'"),
        ("good:SPACE", "task {'lr': [0.1]}: expected a function, got a dict; write def train(manager)"),
        ("good:Model", "task Model: expected a function, got a type; write def train(manager)"),
        ("good:positional", "task positional: expected hyperparameters after a *, got lr, depth before it"),
        ("good:everything", "task everything: expected a name for each hyperparameter, got **params"),
        ("good:nothing", "task nothing: expected a parameter for the manager, got none"),
        ("good:listed", "task listed: lr: expected a type that can be swept, got list[float]"),
        ("good:lost", "task lost: its signature cannot be read: name 'Absent' is not defined"),
        ("good:generator", "task generator: expected a plain function, got one that yields or awaits"),
        ("good:coroutine", "task coroutine: expected a plain function, got one that yields or awaits"),
        ("good:train lr=fast", "lr: expected numbers, got 'fast'; write lr=0.1,0.01"),
        ("good:train depth=1.5", "depth: expected whole numbers, got '1.5'; write depth=1,2"),
        ("good:train kind=c", "kind: expected any of a, b, got 'c'; write kind=a,b"),
        ("good:train lr=0.1,0.1", "lr: 0.1 is given twice in '0.1,0.1'"),
        ("good:train lr=0.1 lr=0.2", "lr: is given twice, '0.1' and '0.2'; write each name once"),
        ("good:train lr=", "lr: expected numbers, got an empty value"),
        ("good:train detph=2", "detph: there is no such setting; did you mean depth?"),
        ("good:needs", "width: expected whole numbers, got nothing; write width=1,2"),
        ("good:train lr", "'lr': expected NAME=VALUES; write lr=0.1,0.01, its values separated by commas"),
        ("good:train =0.1", "'=0.1': expected NAME=VALUES"),
        ("good:train 0.1,0.2", "'0.1,0.2': expected NAME=VALUES"),
        ("good:train l-r=0.1", "'l-r=0.1': expected NAME=VALUES"),
        ("good:train good:needs", "task: expected one, got good:train and good:needs; write a sweep for each"),
        ("good:train --task good:needs", "task: expected one, got good:needs and good:train"),
        ("--task good:train --space 'lr=0.1", 'space: No closing quotation in "\'lr=0.1"'),
        ("--task good:train --space lr:0.1", "task: expected one, got good:train and lr:0.1"),
        ("good:train --batch-size 100", "batch_size: is an option of fashion-mnist, and the task is good:train"),
        ("good:train --goal best:loss", "goal: expected max:METRIC or min:METRIC, or auto, got 'best:loss'"),
        ("good:train --goal max:", "goal: expected max:METRIC or min:METRIC, or auto, got 'max:'"),
        ("good:train --colour red", "colour: there is no such setting"),
        ("good:train seed=-1", "seed: expected whole numbers from 0, got '-1'"),
        ("good:train --register a/b", "register: expected a name without / and :"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line_and_nothing_is_left(
    arguments: str, message: str, folder: Path
) -> None:
    words = arguments.replace("'lr=0.1", "\0").split()
    assert_refused(sweep(*(word.replace("\0", "'lr=0.1") for word in words)), message)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_thing", "importing it failed with ModuleNotFoundError: No module named 'no_such_thing'"),
        ("1 / 0", "importing it failed with ZeroDivisionError: division by zero; make `import bad` work"),
        ("def train(manager:", "importing it failed with SyntaxError"),
        ("import sys; sys.exit(0)", "importing it failed with SystemExit: 0"),
        ("raise KeyboardInterrupt", "importing it failed with KeyboardInterrupt; make `import bad` work"),
        ("import os; os._exit(7)", "the process that imports bad ended (7)"),
        ("def valid(**params): raise ValueError('odd')", "valid(depth=1, lr=0.1) raised ValueError: odd"),
        ("def valid(lr, *, width): return True", "valid(lr=0.1) raised TypeError: valid() missing 1 required"),
        ("def valid(**params): return False", "no combination is valid: valid() refuses them all; write others"),
        ("def prepare(): raise OSError('no data')", "task bad:train: prepare() failed: OSError: no data"),
        ("def prepare(): return [1]", "task bad:train: prepare(): expected a mapping of names to arrays, got a list"),
        ("def prepare(): return {'a': lambda: 1}", "task bad:train: prepare(): a cannot be sent to other processes"),
        ("def prepare(): import sys; sys.exit(3)", "task bad:train: prepare() failed: SystemExit: 3"),
        ("def prepare(path): return {}", "task bad:train: prepare() failed: TypeError: prepare() missing 1 required"),
    ],
)
def test_a_module_that_fails_before_anything_is_trained_is_said_and_nothing_is_left(
    source: str, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module("bad", f"{source}\n\ndef train(manager, *, lr: float = 0.1, depth: int = 1): manager.log(score=lr)\n")
    assert_refused(sweep("bad:train", "lr=0.1,0.2"), message)


WAYS = """
import os, sys, time, threading, warnings
from pathlib import Path

def train(manager, *, how: str):
    return globals()[how](manager)

def fine(manager):
    manager.log(score=1)

def nan(manager):
    manager.log(score=float("nan"))

def nothing(manager):
    pass

def twice(manager):
    for _ in manager.epochs(1): manager.log(score=2)
    for _ in manager.epochs(1): manager.log(score=2)

def returns(manager):
    manager.log(score=3)
    return {"score": 4}

def prints(manager):
    for _ in range(40):
        print("x" * 100_000)
        print("y" * 100_000, file=sys.stderr)
    manager.log(score=5)

def forks(manager):
    child = os.fork()
    manager.log(step=1, score=6)
    if child:
        os.waitpid(child, 0)

def exits(manager):
    manager.log(score=7)
    sys.exit(0)

def leaves(manager):
    os._exit(0)

def replaces(manager):
    sys.stdout = sys.stderr = None
    manager.log(score=8)

def closes(manager):
    sys.stdout.close()
    manager.log(score=9)

def moves(manager):
    Path("elsewhere").mkdir(exist_ok=True)
    os.chdir("elsewhere")
    manager.log(score=10)

def removes(manager):
    gone = Path("gone").absolute()
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    manager.log(score=11)

def interrupts(manager):
    raise KeyboardInterrupt

def text(manager):
    manager.log(score="high")

def odd_error(manager):
    class Odd(Exception):
        def __str__(self): raise ValueError("no text")
    raise Odd

def threads(manager):
    threading.Thread(target=lambda: time.sleep(1000)).start()
    manager.log(score=12)

def warns(manager):
    warnings.warn("a warning of the task")
    manager.log(score=13)

def recurses(manager):
    recurses(manager)

def stateless(manager):
    list(manager.epochs(2, network=[1]))

def missing_file(manager):
    manager.log_artifact("absent.txt")

def outside(manager):
    manager.log_text("x", "../../outside.txt")

def killed(manager):
    import signal
    os.kill(os.getpid(), signal.SIGKILL)

def hears(manager):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    manager.log(score=14)
"""

FINISHED = {
    "fine": 1.0,
    "nan": float("nan"),
    "nothing": None,
    "returns": 3.0,
    "prints": 5.0,
    "forks": 6.0,
    "replaces": 8.0,
    "closes": 9.0,
    "moves": 10.0,
    "removes": 11.0,
    "threads": 12.0,
    "warns": 13.0,
    "hears": 14.0,
}
FAILED = {
    "twice": "StateError: called out of order: epochs() comes once in a run",
    "exits": "SystemExit: 0",
    "leaves": "the run was tried 2 times, and its worker exited with code 0",
    "interrupts": "KeyboardInterrupt",
    "text": "TypeError: score: expected a number",
    "odd_error": "Odd: <exception str() failed>",
    "recurses": "RecursionError: maximum recursion depth exceeded",
    "stateless": "TypeError: epochs(): network has no state_dict and load_state_dict",
    "missing_file": "UsageError: log_artifact: expected a file or a folder, got '",
    "outside": "UsageError: an artifact's name: expected a path such as plots/curve.png, got '../../outside.txt'",
    "killed": "its worker",
}


def test_whatever_a_task_does_each_run_has_its_row_and_its_reason_and_the_sweep_ends(folder: Path) -> None:
    module("ways", WAYS)
    new_store(folder)
    hows = [*FINISHED, *FAILED]
    options = ["--report", "false", "--register", "none", "--goal", "max:score", "--delivery-timeout", str(PATIENCE)]
    words = [sys.executable, "-m", "sweeptrail", "sweep", "ways:train", f"how={','.join(hows)}", *options]
    done = start(*words, cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "xxxxx" not in done.stdout + done.stderr
    parent, children = family(folder)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["sweeptrail.reason"] == f"{len(FAILED)} of {len(hows)} runs failed"
    statuses = {child.data.params["how"]: child.info.status for child in children}
    assert statuses == {**dict.fromkeys(FINISHED, "FINISHED"), **dict.fromkeys(FAILED, "FAILED")}
    for child in children:
        how = child.data.params["how"]
        if how in FAILED:
            assert FAILED[how] in child.data.tags["sweeptrail.reason"]
            assert FAILED[how] in done.stdout.replace("\n", " ")
        else:
            values = [item.value for item in client(folder).get_metric_history(child.info.run_id, "score")]
            assert [str(value) for value in values] == [str(FINISHED[how])] * (FINISHED[how] is not None)
    assert "warning: the task returned a dict, which is not kept; write manager.log(name=value)" in done.stdout
    assert rows(folder, "results.csv") == {*FINISHED, "twice", "exits"} - {"nothing"}  # whatever was measured
    assert rows(folder, "leaderboard.csv") == {*FINISHED} - {"nothing"}
    assert not list(folder.rglob("outside.txt"))


def rows(folder: Path, table: str) -> set[str]:
    """Return which of the ways a table has rows of."""
    [path] = folder.glob(f"runs/*/{table}")
    return set(pandas.read_csv(path, keep_default_na=False)["how"])


LATE = """
import os
from pathlib import Path

with Path("imports").open("a") as file:
    file.write(f"{os.getpid()}\\n")
if len(Path("imports").read_text().split()) > 1:
    raise OSError("only once")

def train(manager, *, lr: float = 0.1): manager.log(score=lr)
"""


def test_a_module_that_fails_in_the_workers_alone_makes_its_runs_fail_with_the_reason(folder: Path) -> None:
    module("late", LATE)
    new_store(folder)
    options = ["--report", "false", "--register", "none"]
    done = program("sweep", "late:train", "lr=0.1,0.2", *options, cwd=folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "importing it failed with OSError: only once" in done.stdout
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FAILED"] * 3


def test_a_goal_that_no_run_has_ranks_none_and_is_said(folder: Path) -> None:
    options = ["--engine", "serial", "--report", "false", "--register", "none", "--no-tracking"]
    result = sweep("good:train", "lr=0.1,0.2", "--goal", "max:f1", *options)
    assert result.exit_code == 0, result.output
    assert "f1" in result.output
    assert "0.0000" not in result.output


@pytest.mark.parametrize(("task", "epochs"), [("good:small", 0), ("good:partial", 2)])
def test_a_lambda_and_a_partial_function_are_tasks_too(task: str, epochs: int, folder: Path) -> None:
    options = ["--engine", "serial", "--report", "false", "--register", "none", "--no-tracking"]
    result = sweep(task, "lr=0.1,0.2", *options)
    assert result.exit_code == 0, result.output
