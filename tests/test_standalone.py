"""The article's loop, written against the public names, in a plain script with nothing configured."""

import re
import sys
from pathlib import Path

import pandas
import pytest

from tests.commands import ROOT, client, family, new_store, start

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
LOOP = re.search(r"## In a loop of your own.*?```python\n(.*?)```", README, re.DOTALL)[1]  # type: ignore[index]  # the README has it


def run_script(code: str, folder: Path, **environment: str) -> str:
    new_store(folder)
    (folder / "loop.py").write_text(code)
    finished = start(sys.executable, "loop.py", cwd=folder, **environment)
    return finished.stdout + finished.stderr


def test_the_loop_in_the_readme_is_tracked_by_itself_and_its_parent_names_its_champion(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP)
    output = start(sys.executable, "loop.py", cwd=tmp_path).stdout
    assert sum(" epoch " in line for line in output.splitlines()) == 8
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    assert {item.path for item in client(tmp_path).list_artifacts(parent.info.run_id)} == {
        "leaderboard.csv",
        "results.csv",
        "results.json",
    }
    assert [child.data.params for child in children][1] == {"lr": "0.01", "batch_size": "250"}
    assert len(client(tmp_path).get_metric_history(children[0].info.run_id, "loss")) == 2
    assert [item.path for item in client(tmp_path).list_artifacts(children[0].info.run_id)] == ["tensorboard"]
    frame = pandas.read_csv(tmp_path / "results.csv", index_col=0)
    assert len(frame) == 8
    assert len(list(tmp_path.glob("runs/*/*/events.out.tfevents.*"))) == 4
    best = max(children, key=lambda child: child.data.metrics["accuracy"])
    assert parent.data.tags["sweeptrail.champion"] == best.info.run_name
    assert "**Champion: " in parent.data.tags["mlflow.note.content"]
    assert "report.html" not in parent.data.tags["mlflow.note.content"]  # nobody has drawn one


@pytest.mark.parametrize(
    ("statement", "status", "reason"),
    [
        ("raise ValueError('boom')", "FAILED", "ValueError: boom"),
        ("raise KeyboardInterrupt", "KILLED", "KeyboardInterrupt"),
        ("import sys; sys.exit()", "FAILED", "the loop ended without end_run()"),
    ],
)
def test_a_loop_that_dies_leaves_an_honest_status(statement: str, status: str, reason: str, tmp_path: Path) -> None:
    dying = LOOP.replace("    manager.end_run()", f"    if run.lr == 0.001: {statement}\n    manager.end_run()")
    run_script(dying, tmp_path)
    parent, children = family(tmp_path)
    assert [child.info.status for child in children] == ["FINISHED", "FINISHED", status]
    assert parent.info.status == status
    assert children[2].data.tags["sweeptrail.reason"] == parent.data.tags["sweeptrail.reason"] == reason


def test_an_active_mlflow_run_is_the_parent_and_is_left_to_its_owner(tmp_path: Path) -> None:
    indented = LOOP.replace("\n", "\n    ")
    code = (
        "import mlflow\n"
        "with mlflow.start_run(run_name='mine'):\n"
        f"    {indented}\n"
        "    assert mlflow.active_run().info.status == 'RUNNING'\n"
        "    mlflow.log_metric('after', 1)\n"
    )
    output = run_script(code, tmp_path)
    assert "Traceback" not in output
    parent, children = family(tmp_path)
    assert (parent.info.run_name, parent.info.status, parent.data.metrics) == ("mine", "FINISHED", {"after": 1})
    assert len(children) == 4


def test_a_loop_that_ends_without_save_closes_its_parent(tmp_path: Path) -> None:
    run_script(LOOP.replace('manager.save("results")', ""), tmp_path)
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5


def test_the_numbers_of_a_loop_are_the_same_with_and_without_tracking(tmp_path: Path) -> None:
    fixed = LOOP.replace("images, labels = torch.rand", "torch.manual_seed(3)\nimages, labels = torch.rand").replace(
        "batch_size=run.batch_size)", "batch_size=run.batch_size, shuffle=True)"
    )
    frames = []
    for name, code in (("on", fixed), ("off", fixed.replace("RunManager()", "RunManager([])"))):
        (tmp_path / name).mkdir()
        run_script(code, tmp_path / name)
        frames.append(pandas.read_csv(tmp_path / name / "results.csv", index_col=0))
    assert frames[0]["loss"].tolist() == frames[1]["loss"].tolist()
