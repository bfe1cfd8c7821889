"""Before a sweep starts: which runs there are, how long they may take, and what the sweep is called."""

import csv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

import sweeptrail
from sweeptrail.cli import main
from sweeptrail.errors import UsageError
from sweeptrail.outbox import sweep_folder
from sweeptrail.records import Job
from sweeptrail.sweeps.asked import read_words
from sweeptrail.sweeps.plan import Plan, make_plan
from sweeptrail.sweeps.trials.jobs import Jobs
from sweeptrail.tasks.find import Finder, task_of
from sweeptrail.tracking import tags
from sweeptrail.tracking.uri import Tracking
from tests.commands import new_store
from tests.small_sweep import files_below

TASKS = """
import os
from pathlib import Path

def train(manager, *, lr: float = 0.1, hidden: int = 64, epochs: int = 3):
    for epoch in manager.epochs(epochs):
        Path(os.environ["TRACE"], f"epoch-{epoch}").touch()
        manager.log(score=lr * hidden)

def fit(manager, *, C: float, kind: str = "rbf"):
    manager.log(score=C)

def broken(manager, *, C: float = 1.0):
    raise ValueError("no such data")
"""

VALID = """
from pathlib import Path
import os

def valid(lr, hidden):
    Path(os.environ["TRACE"], f"asked-{len(os.listdir(os.environ['TRACE']))}").touch()
    return lr * hidden < 10

def train(manager, *, lr: float = 0.1, hidden: int = 64, epochs: int = 1):
    manager.log(score=lr)

def choosy(manager, *, lr: float = 0.1, hidden: int = 64):
    manager.log(score=lr)
"""


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tasks, where one works, and another in which the tasks leave what they did."""
    found = tmp_path / "trace"
    found.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "before_tasks.py").write_text(TASKS)
    (work / "before_valid.py").write_text(VALID)
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(work)
    monkeypatch.setenv("TRACE", str(found))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{work}/mlflow.db")  # which only a sweep makes
    return found


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def plan_of(*words: str, **options: str) -> Plan:
    with Finder() as finder:
        asked = read_words(words, task="", space="", options=options)
        return make_plan(asked, lambda: Tracking.from_environment(), finder)


def values_of(plan: Plan) -> list[dict[str, object]]:
    return [params for params, _ in plan.settings.grid()]


def jobs_of(plan: Plan) -> list[Job]:
    jobs = Jobs(plan, Path(), "", ())
    return [jobs.make(params, fixed) for params, fixed in plan.settings.grid()]


def write_csv(name: str, *lines: str) -> str:
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def test_a_dry_run_lists_the_runs_times_one_epoch_and_leaves_nothing(trace: Path) -> None:
    before = files_below(Path.cwd()).keys()
    result = invoke("sweep", "--dry-run", "before_tasks:train", "lr=0.1,0.01", "hidden=8,16", "--workers", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "4 runs; lr: 2 values, hidden: 2 values"
    assert lines[1:5] == [f"  {n}_lr={lr},hidden={h}" for n, (lr, h) in enumerate(GRID, start=1)]
    assert "2 at a time: of 1_lr=0.1,hidden=8 the first of 3 epochs took" in lines[5]
    assert [path.name for path in trace.iterdir()] == ["epoch-1"]
    assert {name for name in files_below(Path.cwd()).keys() - before if "__pycache__" not in name} == set()
    assert not Path("runs").exists()


GRID = [(0.1, 8), (0.1, 16), (0.01, 8), (0.01, 16)]


def test_of_a_task_without_epochs_a_whole_run_is_timed() -> None:
    result = invoke("sweep", "before_tasks:fit", "C=1,2", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "of 1_C=1.0 the whole run took" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--dry-run=true"], ["--dry-run", "true"], ["--dry_run", "true"], ["--dry-run"]])
def test_dry_run_takes_a_value_as_a_project_gives_it_and_does_without(words: list[str], trace: Path) -> None:
    result = invoke("resume", *words, "nowhere")  # the name of a sweep, and no value of the option
    assert result.exit_code == 2
    assert "got 'nowhere'" in result.stderr
    assert not list(trace.iterdir())


def test_resume_needs_no_words() -> None:
    result = invoke("resume")
    assert result.exit_code == 2
    assert "resume: expected latest" in result.stderr


@pytest.mark.slow
def test_of_many_runs_the_first_and_the_last_are_listed() -> None:
    values = ",".join(map(str, range(1, 101)))
    lines = invoke("sweep", "before_tasks:fit", f"C={values}", "--dry-run").stdout.splitlines()
    assert lines[0] == "100 runs; C: 100 values"
    assert [line.split()[0] for line in lines[1:-1]] == [
        *(f"{n}_C={n}.0" for n in range(1, 6)),
        "...",
        *(f"{n}_C={n}.0" for n in range(96, 101)),
    ]
    assert "90 more" in lines[6]


@pytest.mark.slow
def test_a_dry_run_of_a_task_that_fails_says_why() -> None:
    result = invoke("sweep", "before_tasks:broken", "--dry-run")
    assert result.exit_code == 1
    assert "which was to be timed, FAILED: ValueError: no such data" in result.stdout


@pytest.mark.slow
def test_a_dry_run_of_the_built_in_task_needs_no_network_of_its_own(trace: Path) -> None:
    del trace
    words = ["--train-samples", "200", "--validation-samples", "100", "--batch-size", "100", "--shuffle", "true"]
    result = invoke("sweep", "--dry-run", *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 runs; lr: 2 values, batch_size: 1 value, shuffle: 1 value\n")
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_a_sweep_in_python_goes_dry_goes_on_and_says_what_is_finished(capsys: pytest.CaptureFixture[str]) -> None:
    def train(manager: sweeptrail.RunManager, *, lr: float = 0.1) -> None:
        manager.log(score=lr)

    new_store(Path.cwd())
    listed = [{"lr": 0.2}, {"lr": 0.1}]
    space: dict[str, Any] = {"goal": "max:score", "engine": "serial", "report": "false", "register": "none"}
    outcome = sweeptrail.sweep(train, listed, name="my first/try", note="*Why*", tag=["team=vision"], **space)
    assert outcome.folder.name == "my-first-try"
    assert outcome.champion
    assert outcome.champion.params == {"lr": 0.2}
    parent = MlflowClient().get_run(outcome.run_id)
    assert parent.info.run_name == "my-first-try"
    assert parent.data.tags["mlflow.note.content"].startswith("*Why*\n\n**Champion")
    runs = MlflowClient().search_runs([parent.info.experiment_id])
    assert [run.data.tags["team"] for run in runs] == ["vision"] * 3
    capsys.readouterr()

    dry = sweeptrail.sweep(train, [{"lr": 0.1}, {"lr": 0.3}], resume=outcome.folder, dry_run=True, **space)
    assert [job.name for job in dry.jobs] == ["3_lr=0.3"]
    assert (dry.finished, dry.exit_code) == (2, 0)
    assert "2 finished already, 1 to carry out" in capsys.readouterr().out
    assert len(sweep_folder.read(outcome.folder).runs) == 2
    assert sweep_folder.new_sweep_folder(outcome.folder.parent, "my-first-try").name == "my-first-try_2"


@pytest.mark.slow
def test_more_runs_than_a_sweep_may_have_are_refused_by_their_number_alone() -> None:
    values = ",".join(map(str, range(1, 2001)))
    with pytest.raises(UsageError, match=r"max_runs: expected at most 10000 runs, got 4000000 \(lr 2000 x hidden"):
        plan_of("before_tasks:train", f"lr={values}", f"hidden={values}")
    with pytest.raises(UsageError, match=r"got 4 .*write fewer values, or max_runs=4"):
        plan_of("before_tasks:train", "lr=1,2", "hidden=1,2", max_runs="3")
    assert len(values_of(plan_of("before_tasks:train", "lr=1,2", "hidden=1,2", max_runs="4"))) == 4


def test_a_file_lists_the_runs_beside_single_values() -> None:
    file = write_csv("list.csv", "lr, hidden", "0.1,8", "", "0.01 ,16", "0.01,8")
    plan = plan_of("before_tasks:train", "epochs=2", runs=file)
    assert values_of(plan) == [{"lr": 0.1, "hidden": 8}, {"lr": 0.01, "hidden": 16}, {"lr": 0.01, "hidden": 8}]
    assert plan.settings.texts["runs"] == "lr=0.1 hidden=8,lr=0.01 hidden=16,lr=0.01 hidden=8"


def test_only_what_differs_in_a_list_is_a_column() -> None:
    plan = plan_of("before_tasks:train", runs=write_csv("list.csv", "hidden,lr", "8,0.1", "8,0.2"))
    assert plan.settings.columns == ("lr",)
    assert [fixed["hidden"] for _, fixed in plan.settings.grid()] == [8, 8]


def test_a_listed_run_has_the_key_of_the_same_combination_in_a_grid() -> None:
    rows = [f"{hidden},{lr}" for lr, hidden in GRID]
    listed = plan_of("before_tasks:train", runs=write_csv("list.csv", "hidden,lr", *rows))
    grid = plan_of("before_tasks:train", "lr=0.1,0.01", "hidden=8,16")
    both = [[(job.name, job.key) for job in jobs_of(plan)] for plan in (listed, grid)]
    assert both[0] == both[1]


def test_text_in_a_list_may_hold_whatever_separates_elsewhere() -> None:
    kinds = ["a,b", 'say "x"', "it's", "a = b", ""]
    with Path("list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["kind", "C"], *([kind, 1] for kind in kinds)])
    plan = plan_of("before_tasks:fit", runs="list.csv")
    assert [params["kind"] for params in values_of(plan)] == kinds
    assert values_of(plan_of("before_tasks:fit", **plan.settings.texts)) == values_of(plan)


def test_what_is_not_in_a_list_of_runs_of_the_built_in_task_has_its_first_default() -> None:
    plan = plan_of(runs=write_csv("list.csv", "lr,optimizer", "0.1,sgd", "0.01,adam"))
    assert plan.settings.columns == ("lr", "batch_size", "shuffle", "optimizer")
    assert [tuple(params.values()) for params in values_of(plan)] == [
        (0.1, 100, True, "sgd"),
        (0.01, 100, True, "adam"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["lr,hidden", "0.1,8", "x,8"], "runs: line 3 of list.csv: lr: expected numbers, got 'x'; write lr=0.1,0.01"),
        (["lr,hidden", "", "0.1,1.5"], "runs: line 3 of list.csv: hidden: expected whole numbers, got '1.5'"),
        (["lr,hidden", "0.1"], "runs: line 2 of list.csv: expected 2 values, got 1; write lr, hidden"),
        (["lr,hidden", "0.1,"], "runs: line 2 of list.csv: hidden: expected whole numbers, got ''"),
        (["lr", "0.1", "0.10"], "runs: line 3 of list.csv is the same as line 2 of list.csv; write each"),
        (["lr,hiden", "0.1,8"], "runs: hiden: there is no such hyperparameter; did you mean hidden?"),
        (["lr,lr", "0.1,8"], "names lr twice"),
        (["lr"], "has no combinations"),
        ([""], "has no combinations"),
        (['lr\n"0.1'], "cannot be read as CSV (unexpected end of data)"),
    ],
)
def test_a_mistake_in_a_list_is_named_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of("before_tasks:train", runs=write_csv("list.csv", *lines))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_list_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"runs: nowhere\.csv cannot be read as CSV .No such file"):
        plan_of("before_tasks:train", runs="nowhere.csv")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr=0.5", "lr: is in the list of runs as well; leave out lr=0.5"),
        ("hidden=8,16", "hidden: expected a single value beside a list of runs, got 2"),
    ],
)
def test_a_list_is_no_grid(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of("before_tasks:train", word, runs=write_csv("list.csv", "lr", "0.1", "0.2"))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([{"lr": 0.1}, {"lr": "x"}], "runs: combination 2: lr: expected numbers, got 'x'"),
        ([{"lr": 0.1}, {"lr": 0.1}], "runs: combination 2 is the same as combination 1"),
        ([{"lr": 0.1}, {"rl": 0.2}], "runs: combination 2: expected lr, got rl; write the same names in each"),
        ([{"lr": [0.1]}], r"lr: expected numbers, text, true or false, or None, got \[0.1\]"),
        ([], "space: the list of combinations is empty"),
        ([0.1], "space: expected lists of values by name, or a list of combinations"),
    ],
)
def test_a_mistake_in_a_list_of_mappings_is_named(space: list[object], message: str) -> None:
    def train(manager: sweeptrail.RunManager, *, lr: float = 0.1) -> None: ...

    with pytest.raises(UsageError, match=message):
        sweeptrail.sweep(train, space, engine="serial")  # type: ignore[arg-type]  # wrong on purpose


def test_a_module_leaves_combinations_out_and_is_asked_once(trace: Path) -> None:
    plan = plan_of("before_valid:train", "lr=0.1,1", "hidden=8,64")
    assert values_of(plan) == [{"lr": 0.1, "hidden": 8}, {"lr": 0.1, "hidden": 64}, {"lr": 1.0, "hidden": 8}]
    assert len(jobs_of(plan)) == 3
    assert len(list(trace.iterdir())) == 4


def test_valid_is_given_what_it_has_parameters_for() -> None:
    def train(manager: sweeptrail.RunManager, *, lr: float = 0.1, hidden: int = 8) -> None: ...

    combinations = [{"lr": 0.1, "hidden": 8, "seed": 0}, {"lr": 0.2, "hidden": 16, "seed": 0}]
    assert task_of(train, None, lambda hidden: hidden > 8).are_valid(combinations) == [False, True]
    assert task_of(train, None, lambda **given: set(given) == {"lr", "hidden"}).are_valid(combinations) == [True, True]


def test_a_valid_that_raises_is_one_line_with_the_combination() -> None:
    def train(manager: sweeptrail.RunManager, *, lr: float = 0.1, hidden: int = 8) -> None: ...

    def valid(lr: float) -> bool:
        raise KeyError(lr)

    with pytest.raises(UsageError, match=r"valid\(lr=0.1\) raised KeyError: 0.1; write one that returns True or False"):
        task_of(train, None, valid).are_valid([{"lr": 0.1, "hidden": 8}])
    Path("before_wrong.py").write_text("def valid(lr): 1 / 0\ndef fit(manager, *, lr: float = 0.1): ...\n")
    with pytest.raises(UsageError) as caught:
        plan_of("before_wrong:fit", "lr=1,2")
    assert caught.value.problems == (
        "valid(lr=1.0) raised ZeroDivisionError: division by zero; write one that returns True or False",
    )


def test_a_sweep_whose_combinations_are_all_refused_does_not_start() -> None:
    with pytest.raises(UsageError, match="no combination is valid"):
        plan_of("before_valid:train", "lr=5", "hidden=8,64")


@pytest.mark.parametrize("name", ["latest", "none", "/", "..", ""])
def test_a_sweep_cannot_be_called_what_means_something_else(name: str) -> None:
    with pytest.raises(UsageError, match="name: expected a name with letters or digits, not latest, or auto"):
        plan_of(name=name)


@pytest.mark.parametrize("tag", ["team", "=x", "sweeptrail.key=1", "mlflow.user=me", "a?b=1"])
def test_a_tag_is_a_key_of_ones_own_with_a_value(tag: str) -> None:
    with pytest.raises(UsageError, match=r"tag: expected KEY=VALUE, no key that begins with sweeptrail\."):
        plan_of(tag=tag)


def test_tags_may_be_given_one_by_one_or_separated_by_commas() -> None:
    assert plan_of(tag="team=vision,why=a=b").settings.tags == {"team": "vision", "why": "a=b"}
    result = invoke("sweep", "--tag", "team=vision", "--tag", "mlflow.x=1", "--tag", "=")
    assert "tag: expected KEY=VALUE" in result.stderr
    assert "'mlflow.x=1'" in result.stderr


def test_settings_that_are_too_long_for_a_tag_are_read_back_whole() -> None:
    settings = {"runs": ",".join(f"lr={number}" for number in range(3000)), "note": "größer"}
    told = tags.settings_tags(settings)
    assert len(told) > 1
    assert max(map(len, told.values())) < 8000
    assert tags.read_settings({**told, **tags.settings_tags({"note": "short"}), "other": "x"}) == {"note": "short"}
    assert tags.read_settings(told) == settings
    assert tags.read_settings({}) == {}
