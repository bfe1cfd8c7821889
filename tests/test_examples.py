"""Each example does what its first line says, from a copy of its own and with fewer epochs."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, client, family, new_store, program, start
from tests.waiting import PATIENCE

EXAMPLES = ROOT / "examples"
FILES = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix in (".py", ".ipynb")]
SWEEPS = {
    words[0]: words[1:]
    for path in FILES
    for words in map(shlex.split, re.findall(r'"""[^"\n]*: sweeptrail sweep ([^"\n]+)"""', path.read_text()))
}
"""The sweeps that the examples speak of: what to sweep over, by the task."""

CUT = {
    "images:train": "epochs=1",
    "lightning_logger:train": "epochs=2",
    "regression:train": "epochs=3",
    "steps:solve": "steps=100",
    "tagging:train": "epochs=2",
}
"""What makes it shorter."""

MEASURED = {"gan:train": "distance", "regression:train": "validation_rmse", "steps:solve": "value"}
"""What ranks the runs; the least of it is best, else the greatest validation accuracy is."""

QUICKLY = ("--report", "false", "--register", "none", "--delivery-timeout", str(PATIENCE))


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[pytest.mark.heavy] if "lightning" in task else []) for task in SWEEPS]
)
def test_the_sweep_of_an_example_ranks_its_runs_by_their_goal(task: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / f"{task.partition(':')[0]}.py", tmp_path)
    new_store(tmp_path)
    words = [*SWEEPS[task], *([CUT[task]] if task in CUT else [])]
    done = program("sweep", task, *words, *QUICKLY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "arning" not in done.stderr
    parent, runs = family(tmp_path)
    assert {run.info.status for run in (parent, *runs)} == {"FINISHED"}
    metric, best = (MEASURED[task], min) if task in MEASURED else ("validation_accuracy", max)
    reached = {run.info.run_name: client(tmp_path).get_metric_history(run.info.run_id, metric)[-1] for run in runs}
    assert len(reached) == len(runs) > 1
    champion = parent.data.tags["sweeptrail.champion"]
    assert reached[champion].value == best(each.value for each in reached.values())


@pytest.mark.slow
@pytest.mark.heavy
def test_optuna_drives_a_loop_that_is_tracked(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "optuna_loop.py", tmp_path)
    new_store(tmp_path)
    done = start(sys.executable, "optuna_loop.py", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "best: {'lr': " in done.stdout
    parent, runs = family(tmp_path)
    assert {run.info.status for run in (parent, *runs)} == {"FINISHED"}
    assert len(runs) == 2
    for run in runs:
        assert len(client(tmp_path).get_metric_history(run.info.run_id, "validation_accuracy")) == 3


@pytest.mark.slow
@pytest.mark.heavy
def test_the_notebook_sweeps_over_a_function_of_its_own(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "sweep.ipynb", tmp_path)
    new_store(tmp_path)
    done = start(sys.executable, "-m", "jupyter", "execute", "--inplace", "sweep.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, last = json.loads((tmp_path / "sweep.ipynb").read_text())["cells"]
    [printed] = last["outputs"]
    assert "['FINISHED', 'FINISHED', 'FINISHED', 'FINISHED']\n" in printed["text"]
    parent, runs = family(tmp_path)
    assert {run.info.status for run in (parent, *runs)} == {"FINISHED"}


def test_the_examples_are_short_and_their_list_is_complete() -> None:
    assert len(FILES) == 9
    assert set(re.findall(r"\]\((\S+)\)", (EXAMPLES / "README.md").read_text())) == {path.name for path in FILES}
    for path in FILES:
        text = path.read_text()
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
            text = "\n".join("".join(cell["source"]) for cell in cells)
        else:
            assert re.match(r'"""[A-Za-z].*: (sweeptrail sweep|python) .*"""\n', text), path
        assert len(text.splitlines()) < 60, path
