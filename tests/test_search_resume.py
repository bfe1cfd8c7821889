"""A search that was stopped goes on with the decisions that it had made; one that is over goes further."""

import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pandas
import pytest
from click.testing import CliRunner

from sweeptrail.cli import main
from sweeptrail.outbox import sweep_folder
from tests.commands import family, new_store, program, start
from tests.searched import MODULE, chosen, decisions, epochs
from tests.steered import begun, kill_after, wait_for_end
from tests.waiting import PATIENCE, wait_for

SEARCH = ("searched_tasks:curve", "x=0..1", "y=0..1", "--search", "tpe", "--trials", "14", "--stop", "asha")
PLAIN = ("--delivery-timeout", f"{PATIENCE:.0f}", "--report", "false", "--register", "none")
QUICK = (*PLAIN, "--goal", "min:validation_loss")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return made(tmp_path)


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "searched_tasks.py").write_text(MODULE)
    new_store(folder)
    return folder


def sweeptrail(place: Path, *words: str, code: int = 0, **environment: str) -> str:
    run = partial(start, sys.executable, "-m", "sweeptrail") if "PYTHONPATH" in environment else program
    done = run(*words, cwd=place, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def the_sweep(place: Path) -> Path:
    (found,) = sweep_folder.sweep_folders(place / "runs")
    return found


def table(folder: Path) -> pandas.DataFrame:
    """Return the results without what depends on the machine."""
    return pandas.read_csv(folder / "results.csv").drop(columns=["epoch duration", "run duration"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The search with one worker, from start to finish."""
    place = made(tmp_path_factory.mktemp("undisturbed"))
    sweeptrail(place, "sweep", *SEARCH, *QUICK, "--engine", "serial")
    return the_sweep(place)


MOMENTS = (
    "sweeptrail.outbox.parent_journal.ParentJournal.decide",
    "sweeptrail.training.sinks.checkpoint.Checkpoint.epoch",
    "sweeptrail.outbox.run_journal.RunJournal.end",
    "sweeptrail.sweeps.trials.trials.Trials.tell",
    "sweeptrail.outbox.run_journal.RunJournal.begin",
)
"""Those after which a sweep may be killed: a decision is kept, an epoch, a run has paused, and so on."""


@pytest.mark.slow
def test_with_one_worker_a_search_that_is_killed_has_the_same_runs_in_the_same_order(
    place: Path, undisturbed: Path
) -> None:
    kill_after(MOMENTS[0], "sweep", *SEARCH, *QUICK, "--engine", "serial", cwd=place)
    for moment in (*MOMENTS[1:], *MOMENTS):
        kill_after(moment, "resume", cwd=place)
    sweeptrail(place, "resume")
    folder = the_sweep(place)
    assert chosen(folder) == chosen(undisturbed)
    assert epochs(folder) == epochs(undisturbed)
    pandas.testing.assert_frame_equal(table(folder), table(undisturbed))
    assert {run.info.status for each in family(place)[1:] for run in each} == {"FINISHED"}


@pytest.mark.slow
def test_killed_five_times_with_two_workers_no_run_is_lost_or_twice(place: Path) -> None:
    command = [sys.executable, "-m", "sweeptrail"]
    words = ["sweep", *SEARCH, *QUICK, "--workers", "2", "--budget", "1h"]
    for number in range(1, 6):
        with begun(*command, *words, cwd=place) as process:
            wait_for(lambda: done_in(place) >= 6 * number or process.poll() is not None)  # noqa: B023
            os.killpg(process.pid, signal.SIGKILL)
            wait_for_end(process)
        words = ["resume"]
    sweeptrail(place, "resume")
    folder = the_sweep(place)
    assert [each.trial for each in decisions(folder) if each.runs] == list(range(1, 15))
    assert sorted(int(name.partition("_")[0]) for name in epochs(folder)) == list(range(1, 15))
    assert all(each == list(range(1, len(each) + 1)) for each in epochs(folder).values())
    sent = {each.trial: each.epochs for each in decisions(folder)}
    assert {int(name.partition("_")[0]): len(each) for name, each in epochs(folder).items()} == sent
    assert 9 in sent.values()
    parent, children = family(place)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len(children) == 14


def done_in(place: Path) -> int:
    """Return how many epochs all runs have together."""
    return sum(len(each) for folder in sweep_folder.sweep_folders(place / "runs") for each in epochs(folder).values())


@pytest.mark.slow
def test_more_trials_and_a_wider_range_go_on_with_the_same_search(place: Path) -> None:
    words = ("searched_tasks:valley", "x=0..0.5", "--search", "random", *PLAIN)
    sweeptrail(place, "sweep", *words, "--trials", "4", "--engine", "serial")
    before = chosen(the_sweep(place))
    sweeptrail(place, "resume", "latest", "x=0..2", "--trials", "8")
    after = chosen(the_sweep(place))
    assert after[:4] == before
    assert len(after) == 8
    assert max(float(params["x"]) for _, params, _ in after[4:]) > 0.5
    assert len(family(place)[1]) == 8
    assert "lr" not in after[-1][1]
    message = sweeptrail(place, "resume", "latest", "x=0.1..0.3", "--search", "tpe", code=2)
    assert "search: the sweep to resume has random, got tpe; leave search out, or start a new sweep" in message
    narrower = sweeptrail(place, "resume", "latest", "x=5..9", code=2)
    assert "x: the sweep to resume has 0..2, got 5..9; write a range that it lies in" in narrower


@pytest.mark.slow
def test_a_combination_has_all_its_seeds_and_more_seeds_go_to_all(place: Path) -> None:
    words = ("searched_tasks:valley", "x=0..1", "seed=0..2", "--search", "tpe", "--trials", "3", *PLAIN)
    sweeptrail(place, "sweep", *words, "--engine", "serial")
    assert [len(each.runs) for each in decisions(the_sweep(place))] == [3, 3, 3]
    sweeptrail(place, "resume", "latest", "seed=3")
    _, children = family(place)
    found = sorted((run.data.tags["sweeptrail.trial"], run.data.params["seed"]) for run in children)
    assert found == [(str(trial), str(seed)) for trial in (1, 2, 3) for seed in range(4)]
    board = pandas.read_csv(the_sweep(place) / "leaderboard.csv")
    assert list(board["seeds"]) == [4, 4, 4]


@pytest.mark.slow
def test_a_budget_counts_all_sittings_and_begins_nothing_when_it_is_spent(place: Path) -> None:
    words = ("searched_tasks:valley", "x=0..1", "--search", "random", *PLAIN, "--engine", "serial")
    spent = sweeptrail(place, "sweep", *words, "--budget", "0.001s")
    assert "the budget is spent after 0 runs; resume with a larger one to go on" in spent
    longer = sweeptrail(place, "resume", "latest", "--budget", "1h", "--trials", "3")
    assert "the budget is spent" not in longer
    assert len(family(place)[1]) == 3
    journal = the_sweep(place) / "outbox.jsonl"
    assert len(decisions(the_sweep(place))) == 3
    again = sweeptrail(place, "resume", "latest", "--budget", "0.001s", "--trials", "9")
    assert "the budget is spent after 3 of 9 runs" in again
    assert journal.exists()


@pytest.mark.slow
def test_a_grid_with_a_budget_leaves_the_rest_for_later(place: Path) -> None:
    words = ("searched_tasks:valley", "x=0.1,0.2,0.3", *PLAIN, "--engine", "serial")
    assert "the budget is spent after 0 of 3 runs" in sweeptrail(place, "sweep", *words, "--budget", "0.001s")
    sweeptrail(place, "resume", "latest", "--budget", "none")
    assert len(family(place)[1]) == 3


CURVE = ("searched_tasks:curve", "x=0.1,0.3", "epochs=4", *QUICK, "--engine", "serial")


@pytest.mark.slow
def test_more_epochs_go_on_with_finished_runs_and_give_the_numbers_of_one_go(place: Path, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    sweeptrail(place, "sweep", *CURVE, TRACE=trace)
    first = [run.info.run_id for run in family(place)[1]]
    further = sweeptrail(place, "resume", "latest", "epochs=9", TRACE=trace)
    assert len(Path(trace).read_text().splitlines()) == 18
    at_once = made(tmp_path / "at_once")
    sweeptrail(at_once, "sweep", *(word.replace("epochs=4", "epochs=9") for word in CURVE))
    pandas.testing.assert_frame_equal(table(the_sweep(place)), table(the_sweep(at_once)))
    parent, children = family(place)
    assert [run.info.run_id for run in children] == first
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert [run.data.tags["sweeptrail.epochs"] for run in children] == ["9", "9"]
    assert [run.data.params["epochs"] for run in children] == ["4", "4"]
    assert "refused" not in further
    assert "warning" not in further
    again = sweeptrail(place, "resume", "latest", TRACE=trace)
    assert "Traceback" not in again
    assert len(Path(trace).read_text().splitlines()) == 18, "nothing is left to be done"
    assert "epochs: the runs of the sweep to resume have 9, got 3; write more" in sweeptrail(
        place, "resume", "latest", "epochs=3", code=2
    )


@pytest.mark.slow
def test_until_it_has_more_epochs_a_run_ranks_by_what_it_was(place: Path, tmp_path: Path) -> None:
    sweeptrail(place, "sweep", *CURVE)
    before = pandas.read_csv(the_sweep(place) / "leaderboard.csv")
    kill_after(MOMENTS[1], "resume", "latest", "epochs=9", cwd=place)
    ranked = json.loads(sweeptrail(place, "compare", str(the_sweep(place)), "--format", "json"))
    assert [row["validation_loss"] for row in ranked["places"]] == pytest.approx(list(before["validation_loss"]))
    sweeptrail(place, "resume")
    after = pandas.read_csv(the_sweep(place) / "leaderboard.csv")
    assert (after["validation_loss"] < before["validation_loss"]).all()
    assert [len(each) for each in epochs(the_sweep(place)).values()] == [9, 9]


@pytest.mark.slow
def test_more_epochs_without_the_checkpoints_train_anew_and_say_so(place: Path, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    sweeptrail(place, "sweep", *CURVE)
    for path in the_sweep(place).glob("*/checkpoint.pt"):
        path.unlink()
    said = sweeptrail(place, "resume", "latest", "epochs=6", TRACE=trace)
    assert said.count("there is no checkpoint.pt here, so the run begins anew") == 2
    assert len(Path(trace).read_text().splitlines()) == 12
    assert [len(each) for each in epochs(the_sweep(place)).values()] == [6, 6]


@pytest.mark.slow
def test_more_epochs_and_early_stopping_go_together(place: Path) -> None:
    words = ("searched_tasks:curve", "x=0.1,0.2,0.3,0.4,0.5,0.6", "epochs=3", "--stop", "asha", *QUICK)
    sweeptrail(place, "sweep", *words, "--engine", "serial")
    assert sorted(len(each) for each in epochs(the_sweep(place)).values()) == [1, 1, 1, 1, 3, 3]
    sweeptrail(place, "resume", "latest", "epochs=9")
    assert sorted(len(each) for each in epochs(the_sweep(place)).values()) == [1, 1, 1, 1, 3, 9]
    _, children = family(place)
    assert [run.data.tags.get("sweeptrail.stopped_early", "") for run in children].count("") == 1


@pytest.mark.slow
def test_a_search_goes_on_from_the_tracking_server_alone(place: Path) -> None:
    sweeptrail(place, "sweep", *SEARCH, *QUICK, "--engine", "serial")
    before = [params for _, params, _ in chosen(the_sweep(place)) if params]
    parent, _ = family(place)
    shutil.rmtree(place / "runs")
    sweeptrail(place, "resume", parent.info.run_id, "--task", SEARCH[0], "--trials", "16")
    _, children = family(place)
    assert len(children) == 16
    after = sorted(decisions(the_sweep(place)), key=lambda each: each.trial)
    found = [{name: each.params[name] for name in ("x", "y")} for each in after if each.runs][:14]
    assert found == [{name: params[name] for name in ("x", "y")} for params in before]


@pytest.fixture
def no_optuna(place: Path) -> dict[str, str]:
    """An environment in which Optuna is not installed."""
    hook = place / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text("import sys\nsys.modules['optuna'] = None\n")
    return {"PYTHONPATH": f"{hook}{os.pathsep}{Path(__file__).parents[1] / 'src'}"}


BAD = {
    "x=1..0": "x: expected a range from a number to a greater one, got '1..0'; write 0..1",
    "x=log:0..1": "x: expected a range above 0 behind log:, got 'log:0..1'; write log:0.0001..1",
    "x=0..1:0.3": "x: expected steps that end at 1, got '0..1:0.3'; write 0..0.9:0.3",
    "x=0..1:0": "x: expected a number above 0 as the step, got '0..1:0'; write 0..1:1",
    "x=0..nan": "x: expected",
    "x=a..b": "x: expected",
    "x=0..1": "x: expected values, whole numbers or a step in a grid, got 0..1; write x=0..1:0.25, or search=random",
    "epochs=1..2.5": "epochs: expected whole numbers, got '2.5'",
    "--trials 5": "trials: a grid has all combinations, got trials=5; write search=random",
    "--search random": "search: expected an end of random search, got no trials and no budget; write trials=20",
    "--search best": "search: expected any of grid, random, tpe, got 'best'; write search=random",
    "--search random --trials 0": "trials: expected a whole number from 1, or none, got '0'; write trials=20",
    "--search random --budget 0": "budget: expected a time such as 90s, 30m or 2h, or none, got '0'; write budget=30m",
    "--search random --budget soon": "budget: expected a time such as",
    "--stop median": "stop: expected asha or none, got 'median'; write stop=asha",
    "--stop asha --eta 1": "eta: expected a whole number from 2, got '1'; write eta=3",
    "--stop asha --min-epochs 9": "min_epochs: expected less than the 9 epochs of a whole run, got 9; write epochs=81",
    "--stop asha seed=0..2": "seed: expected a single one with stop=asha, which compares runs and not their means",
    "--stop asha epochs=3,9": "epochs: expected a single number with stop=asha, got several; write epochs=9",
    "--search random --trials 20000": "max_runs: expected at most 10000 runs, got 20000 (trials 20000 x seed 1)",
    "--search tpe --trials 5 --runs runs.csv": "search: the runs are listed, so there is nothing to choose, got tpe",
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_searched_is_named_in_one_line_before_anything_is_trained(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (place / "runs.csv").write_text("x\n0.1\n0.2\n")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    done = CliRunner().invoke(main, ["sweep", "searched_tasks:curve", *words.split()])
    assert done.exit_code == 2
    assert BAD[words] in done.output
    assert len(done.output.splitlines()) == 1
    assert not list(sweep_folder.sweep_folders(place / "runs"))


def test_early_stopping_wants_a_task_with_epochs(place: Path) -> None:
    message = sweeptrail(place, "sweep", "searched_tasks:valley", "x=0.1,0.2", "--stop", "asha", code=2)
    assert "stop: asha needs a task with a parameter epochs, after which runs can be stopped" in message


@pytest.mark.slow
def test_without_optuna_the_message_says_what_to_install(place: Path, no_optuna: dict[str, str]) -> None:
    words = ("searched_tasks:valley", "x=0..1", "--trials", "3")
    python_path = no_optuna["PYTHONPATH"]
    message = sweeptrail(place, "sweep", *words, "--search", "tpe", code=2, PYTHONPATH=python_path)
    assert "search: tpe needs the package optuna; write pip install 'sweeptrail[tpe]', or search=random" in message
    quick = (*PLAIN, "--engine", "serial")
    sweeptrail(place, "sweep", *words, "--search", "random", *quick, PYTHONPATH=python_path)


def test_a_goal_that_is_misspelt_is_named_after_the_first_run(place: Path) -> None:
    words = (
        "searched_tasks:valley",
        "x=0..1",
        "--search",
        "tpe",
        "--trials",
        "9",
        "--goal",
        "min:los",
        "--engine",
        "serial",
    )
    message = sweeptrail(place, "sweep", *words, code=2)
    assert "goal: 1_x=" in message
    assert "has logged no los" in message
    assert len(family(place)[1]) == 1


def test_runs_that_fail_do_not_end_a_search(place: Path) -> None:
    words = ("searched_tasks:failing", "x=0..1", "--search", "tpe", "--trials", "12", "--engine", "serial", *PLAIN)
    sweeptrail(place, "sweep", *words, code=1)
    statuses = [run.info.status for run in family(place)[1]]
    assert len(statuses) == 12
    assert {*statuses} == {"FINISHED", "FAILED"}


@pytest.mark.slow
def test_a_dry_run_says_how_large_the_space_is(place: Path) -> None:
    words = ("searched_tasks:curve", "--search", "random", "--trials", "20", "--dry-run")
    assert "20 trials by search=random; a space without end; x: 0..1; y: log:0.1..1" in sweeptrail(
        place, "sweep", *words, "x=0..1", "y=log:0.1..1"
    )
    assert "a space of 12 combinations" in sweeptrail(place, "sweep", *words, "x=0..1:0.5", "y=0.1,0.2,0.3,0.4")
    assert not list(sweep_folder.sweep_folders(place / "runs"))


def test_valid_leaves_combinations_out_of_a_search(place: Path) -> None:
    words = ("searched_tasks:valley", "x=0..2", "y=0..2", "--search", "tpe", "--trials", "15", "--engine", "serial")
    sweeptrail(place, "sweep", *words, *PLAIN)
    assert all(float(params["x"]) + float(params["y"]) < 1.6 for _, params, _ in chosen(the_sweep(place)))
