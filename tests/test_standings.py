"""The parent run answers the question: what a finished sweep says of its runs, its report, its champion."""

import csv
import sys
from pathlib import Path

import pytest

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Note
from tests.commands import SMALL, client, family, program, start, sweep
from tests.steered import begun_program
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standings")]

ENDING = {"shuffle": "true", "batch_size": "50", "seed": "0,1", "epochs": "2", "report": "true"}

MOODY = """
from torch import nn

class Moody(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(784, 10)

    def forward(self, images):
        return self.out(images.flatten(1)) + 0.0 * sum(images[0].flatten().tolist())
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("finished")
    done = sweep(cwd=folder, **ENDING, register="clothes", log_models="all")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


def test_the_parent_names_its_champion_with_its_accuracies(finished: tuple[Path, str]) -> None:
    parent, children = family(finished[0])
    accuracies = {child.info.run_id: child.data.metrics["validation_accuracy"] for child in children}
    champion = next(child for child in children if child.info.run_id == parent.data.tags["sweeptrail.champion_run_id"])
    assert parent.data.tags["sweeptrail.champion"] == champion.info.run_name
    assert parent.data.metrics["champion_validation_accuracy"] == accuracies[champion.info.run_id]
    assert parent.data.metrics["champion_test_accuracy"] == champion.data.metrics["test_accuracy"]
    sums = {"0.01": 0.0, "0.001": 0.0}
    for child in children:
        sums[child.data.params["lr"]] += accuracies[child.info.run_id]
    assert champion.data.params["lr"] == max(sums, key=sums.__getitem__)


def test_another_seed_gives_other_numbers(finished: tuple[Path, str]) -> None:
    _, children = family(finished[0])
    assert len({child.data.metrics["loss"] for child in children}) == len(children)


def test_the_description_of_the_parent_ranks_and_links_its_runs(finished: tuple[Path, str]) -> None:
    parent, children = family(finished[0])
    note = parent.data.tags["mlflow.note.content"]
    assert all(child.info.run_id in note for child in children)
    assert "#/compare-runs?runs=" in note
    assert f"{parent.info.run_id}/artifacts/report.html" in note


def test_leaderboard_report_and_plots_are_artifacts_of_the_parent(finished: tuple[Path, str]) -> None:
    parent, children = family(finished[0])
    store = client(finished[0])
    names = {item.path for item in store.list_artifacts(parent.info.run_id)}
    assert names == {"leaderboard.csv", "plots", "report.html", "results.csv", "results.json", "runs.json"}
    assert len(store.list_artifacts(parent.info.run_id, "plots")) == 6
    [path] = finished[0].glob("runs/*/leaderboard.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["rank"], row["seeds"]) for row in rows] == [("1", "2"), ("2", "2")]
    known = {child.info.run_id for child in children} | {""}  # the server had not got the last runs yet
    assert {row["run_id"] for row in rows} <= known


def test_every_run_has_its_model_and_the_champion_is_registered(finished: tuple[Path, str]) -> None:
    parent, children = family(finished[0])
    store = client(finished[0])
    for child in children:
        files = {item.path for item in store.list_artifacts(child.info.run_id, "model")}
        assert {"model/MLmodel", "model/data"} <= files
    [version] = store.search_model_versions("name = 'clothes'")
    assert version.run_id == parent.data.tags["sweeptrail.champion_run_id"]
    assert store.get_model_version_by_alias("clothes", "champion").version == version.version
    assert version.tags["sweeptrail.sweep_run_id"] == parent.info.run_id


def test_the_output_ends_with_links_to_the_report_the_sweep_and_the_comparison(finished: tuple[Path, str]) -> None:
    parent, children = family(finished[0])
    lines = dict(line.split(": ", 1) for line in finished[1].splitlines() if ": " in line)
    assert Path(lines["report"].strip()).is_file()
    assert f"#/experiments/0/runs/{parent.info.run_id}?workflowType=machine_learning" in lines["the sweep"]
    assert all(child.info.run_id in lines["compare"] for child in children)


def test_a_network_that_cannot_be_exported_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(MOODY)
    settings = {**ENDING, "lr": "0.01", "seed": "0", "network": "moody:Moody", "report": "false"}
    done = sweep(cwd=tmp_path, **settings, register="clothes")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("sweeptrail: 1_lr=0.01,batch_size=50,shuffle=True: no model of it (network: moody:Moody ")
    assert family(tmp_path)[0].info.status == "FINISHED"


def test_the_leaderboard_is_brought_up_to_date_while_the_sweep_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, sweeptrail.results.parent_run as s; s.INTERVAL = 0; "
        "from sweeptrail.cli import main; main(sys.argv[1:])"
    )
    done = start(sys.executable, "-c", code, "sweep", *options(**{**SMALL, "epochs": "1"}), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("runs/*/outbox.jsonl")
    notes = [entry for entry, _ in journal.read(path) if isinstance(entry, Note)]
    assert len(notes) == 9  # one for each of the eight runs, and the last word


def test_a_sweep_that_is_stopped_while_it_concludes_ends_without_what_is_left_to_do(tmp_path: Path) -> None:
    words = ["sweep", *options(**{**SMALL, **ENDING, "register": "clothes"})]
    with begun_program(*words, cwd=tmp_path, output=tmp_path / "output") as process:
        wait_for(lambda: list(tmp_path.glob("runs/*/report.html")) or process.poll() is not None)
        process.terminate()
        assert process.wait(PATIENCE) == 143
    assert not list(tmp_path.glob("runs/*/*/model"))
    assert program("sync", cwd=tmp_path).returncode == 0
    assert family(tmp_path)[0].info.status == "KILLED"


def options(**settings: str) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
