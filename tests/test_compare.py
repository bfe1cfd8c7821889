"""The comparison of sweeps: the same from the folder and from the tracking server, and the command."""

import json
import math
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeptrail.cli import main
from sweeptrail.cli.compare import compare
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.entries import Metrics
from sweeptrail.outbox.journal import append
from sweeptrail.outbox.pull import pull
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.outbox.sweep_folder import Description
from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.results import table as results_table
from sweeptrail.results.columns import table_rows
from sweeptrail.results.compare import with_unique_names
from sweeptrail.results.leaderboard import RankedRun, make_leaderboard
from sweeptrail.results.runs_on_disk import RUNS, as_json, from_json, runs_in
from sweeptrail.results.runs_on_server import gather
from sweeptrail.sweeps import maintenance
from sweeptrail.sweeps.settings import parse
from sweeptrail.system.files import write_whole
from sweeptrail.tasks.task import DEFAULT_TASK, find_task
from sweeptrail.tracking.client import PAGE
from sweeptrail.tracking.ui_links import Where
from tests import written as entries
from tests.commands import new_store, sweep
from tests.proxy import proxy_before
from tests.server import Server

STATUSES: list[Status] = ["FINISHED", "FINISHED", "FAILED", "KILLED"]
"""How the runs of the sweep end; it has one more, which is still open."""

SETTINGS = parse({"lr": "0.1,0.2,0.3,0.4,0.5", "batch_size": "100", "shuffle": "true"}, find_task(DEFAULT_TASK)).texts


def ran(index: int, status: Status = "FINISHED") -> RunResult:
    epochs = tuple(
        Epoch(index, step, 1 / (index + step), step / 10, 2.0, 2.0 * step,
              extra={"validation_loss": 0.5, "validation_accuracy": 0.5 + index / 100}, time=1000.0 + index + step)
        for step in (1, 2)
    )  # fmt: skip
    params = {"lr": index / 10, "batch_size": 100, "shuffle": True}
    metrics = {"test_accuracy": 0.4 + index / 100} if status == "FINISHED" else {}
    error = None if status == "FINISHED" else "Traceback\nValueError: nan"
    return RunResult(index, f"{index}_lr=0.{index}", params, status, epochs, metrics, error, time=1010.0 + index)


def write_run(folder: Path, result: RunResult, *, ends: bool = True, final: str | None = None) -> None:
    """Write the journal of a run, which says which metrics have a final value as runs since version 0.1 do."""
    tags = {} if final is None else {"sweeptrail.final": final, "sweeptrail.key": str(result.index)}
    sink = RunJournal(str(folder), parent=folder.name, tags=tags)
    start = RunStart(result.index, result.name, result.params, {"optimizer": "adam", "seed": 0}, time=1000.0)
    sink.begin(start)
    for epoch in result.epochs:
        sink.epoch(epoch)
    if ends:
        sink.end(result)


def write_sweep(folder: Path, uri: str, *, settings: dict[str, str] = SETTINGS, table: int | None = 4) -> None:
    """Write the journals of a sweep, whose table has the first so many runs, or is not there at all."""
    folder.mkdir(parents=True)
    Description(folder.name, time.time(), uri, settings, []).write(folder)
    parent = journal.Journal(folder / journal.FILE_NAME)
    tags = {"sweeptrail.folder": str(folder)}
    parent.append(entries.opened(folder.name, name=folder.name, time=1000.0, tags=tags))
    if settings:
        parent.append(entries.tags({"sweeptrail.settings": json.dumps(settings)}))
    ended = [ran(index, status) for index, status in enumerate(STATUSES, start=1)]
    for result in ended:
        write_run(folder, result)
    write_run(folder, ran(5), ends=False)
    if table is not None:
        files = results_table.save(results_table.rows(ended[:table]), folder / "results")
        for file in files:
            parent.append(entries.artifact(file.name))
    parent.close()


def deliver(folder: Path, uri: str) -> str:
    """Deliver a sweep and return the id of its parent run."""
    courier = Courier(uri, folder)
    courier.deliver()
    assert courier.refusals == []
    box = courier.where(folder.name)
    assert box
    assert box.run_id
    return box.run_id


def untimed(runs: list[RankedRun], epochs: int = 2) -> list[RankedRun]:
    """Return the runs with their last epochs, without the times of these, which no table has."""
    return [
        replace(
            one,
            folder="",
            result=replace(one.result, epochs=tuple(replace(each, time=0.0) for each in one.result.epochs[-epochs:])),
        )
        for one in runs
    ]


def run_command(tmp_path: Path, *arguments: str) -> Result:
    where = ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", "--runs-dir", str(tmp_path / "runs")]
    return CliRunner().invoke(main, ["compare", *where, *arguments])


def test_the_folder_holds_the_runs_that_are_over(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    write_sweep(tmp_path / "sweep", uri)
    found = runs_in(tmp_path / "sweep")
    assert [one.result for one in found] == [
        replace(ran(index, status), error=ran(index, status).reason or None)
        for index, status in enumerate(STATUSES, start=1)
    ]
    assert {(one.sweep, one.run_id) for one in found} == {("sweep", "")}
    deliver(tmp_path / "sweep", uri)
    assert all(len(one.run_id) == 32 and one.experiment_id == "0" for one in runs_in(tmp_path / "sweep"))


@pytest.mark.parametrize(("table", "spoilt", "epochs"), [(4, "", 2), (None, "", 1), (4, '{"not": "ours"}', 1)])
def test_the_tracking_server_tells_the_same_as_the_folder(
    table: int | None, spoilt: str, epochs: int, tmp_path: Path
) -> None:
    uri, folder = new_store(tmp_path), tmp_path / "sweep"
    write_sweep(folder, uri, table=table)
    if spoilt:
        (folder / "results.json").write_text(spoilt)
    assert untimed(gather(uri, deliver(folder, uri))) == untimed(runs_in(folder), epochs)


def test_a_run_that_went_on_after_the_table_was_written_has_its_last_epoch(tmp_path: Path) -> None:
    uri, folder = new_store(tmp_path), tmp_path / "sweep"
    write_sweep(folder, uri)
    later = Epoch(4, 3, 0.01, 0.9, 2.0, 6.0, extra={"validation_accuracy": 0.9}, time=1100.0)
    write_run(folder, replace(ran(4), epochs=(later,)))
    found = gather(uri, deliver(folder, uri))
    assert [(one.result.epochs[-1].epoch, len(one.result.epochs)) for one in found] == [(2, 2), (2, 2), (2, 2), (3, 1)]
    assert found[3].result.status == "FINISHED"


def test_the_sweep_of_a_loop_of_ones_own_is_compared_by_all_its_params(tmp_path: Path) -> None:
    uri, folder = new_store(tmp_path), tmp_path / "runs" / "own"
    write_sweep(folder, uri, settings={})
    local, remote = runs_in(folder), gather(uri, deliver(folder, uri))
    assert local[0].result.params == remote[0].result.params
    assert local[0].result.params == {"lr": 0.1, "batch_size": 100, "shuffle": True, "optimizer": "adam", "seed": 0}
    assert "best" not in run_command(tmp_path, "own").output.splitlines()[0]


def clone_runs(server: Server, run_id: str, count: int) -> None:
    """Add copies of a run to the server's database until its parent has so many."""
    with sqlite3.connect(server.folder / "mlflow.db") as database:
        for table in ("runs", "params", "tags", "latest_metrics"):
            columns = [f'"{row[1]}"' for row in database.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join("printf('%032x', n)" if name == '"run_uuid"' else name for name in columns)
            database.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 6 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {copied} FROM {table}, numbers WHERE run_uuid = ?",
                (run_id,),
            )
    database.close()


def test_a_thousand_runs_on_a_server_take_five_requests(tracking: Server, tmp_path: Path) -> None:
    folder = tmp_path / "thousand"
    with proxy_before(tracking.port, seed=1) as proxy:
        write_sweep(folder, tracking.uri)
        run_id = deliver(folder, tracking.uri)
        first = runs_in(folder)
        clone_runs(tracking, first[0].run_id, 1000)
        proxy.log.clear()
        found = gather(proxy.uri, run_id)
        assert len(proxy.log) <= 5, proxy.log
    assert len(found) == 4 + 995
    assert untimed([one for one in found if one.run_id in {each.run_id for each in first}]) == untimed(first)
    assert PAGE > 1000


def test_a_sweep_that_has_ended_takes_four_requests_and_no_search(tracking: Server, tmp_path: Path) -> None:
    folder = tmp_path / "ended"
    with proxy_before(tracking.port, seed=1) as proxy:
        write_sweep(folder, tracking.uri)
        run_id = deliver(folder, tracking.uri)
        known = runs_in(folder)
        write_whole(folder / RUNS, as_json(make_leaderboard(known), run_id))
        append(folder / journal.FILE_NAME, entries.artifact(RUNS), entries.closed("FINISHED", time=2000.0))
        Courier(tracking.uri, folder).deliver()
        proxy.log.clear()
        found = gather(proxy.uri, run_id)
        assert len(proxy.log) == 4, proxy.log
    assert [replace(one, folder="") for one in known] == found


def test_sweeps_are_ranked_together_each_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sweep(tmp_path / "runs" / name, f"sqlite:///{tmp_path}/mlflow.db")
    result = run_command(tmp_path, "a", str(tmp_path / "runs" / "b"), "a", "latest", "--format", "json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [(place["rank"], place["sweep"], place["lr"]) for place in content["places"]] == [
        (1, "a", 0.2),
        (2, "b", 0.2),
        (3, "a", 0.1),
        (4, "b", 0.1),
    ]
    assert {(one["run"], one["status"], one["reason"]) for one in content["unranked"]} == {
        ("3_lr=0.3", "FAILED", "ValueError: nan"),
        ("4_lr=0.4", "KILLED", "ValueError: nan"),
    }
    assert content["verdict"].startswith("lr=0.2, batch_size=100, shuffle=True of a is 0.0000 ahead of")


def test_the_table_is_aligned_and_says_what_failed(tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/mlflow.db")
    result = run_command(tmp_path)
    assert result.stdout.splitlines() == [
        "rank   lr  batch_size  shuffle  validation accuracy  test accuracy  run",
        "   1  0.2         100     True               0.5200         0.4200    2",
        "   2  0.1         100     True               0.5100         0.4100    1",
        "",
        "lr=0.2, batch_size=100, shuffle=True is 0.0100 ahead of lr=0.1, batch_size=100, shuffle=True in validation "
        "accuracy; one seed cannot say how sure that is: write seed=0,1,2.",
        "3_lr=0.3  FAILED  ValueError: nan",
        "4_lr=0.4  KILLED  ValueError: nan",
    ]


def test_a_terminal_is_given_no_command_that_a_name_holds(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    write_sweep(folder, f"sqlite:///{tmp_path}/mlflow.db")
    evil = "6_\x1b]0;owned\x07\x9b2J\u202e"
    result = replace(ran(3, "FAILED"), index=6, name=evil, error="ValueError: \x1b[2J")
    write_run(folder, result)
    shown = run_command(tmp_path).stdout
    assert "6_\N{REPLACEMENT CHARACTER}]0;owned" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


@pytest.mark.parametrize(("form", "begins"), [("csv", "rank,sweep,lr,"), ("html", "<!doctype html>")])
def test_other_formats_go_into_a_file(form: str, begins: str, tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/mlflow.db")
    result = run_command(tmp_path, "--format", form, "--output", str(tmp_path / "board"))
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "board").read_text().lower().startswith(begins)


@pytest.mark.slow
def test_what_is_no_sweep_is_one_clear_line(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "runs" / "a"
    write_sweep(folder, uri)
    no_such_id = "0" * 32
    assert f"'{no_such_id}'; there are a" in run_command(tmp_path, no_such_id).stderr
    assert not (tmp_path / "mlflow.db").exists()
    deliver(folder, uri)
    nested = runs_in(folder)[0].run_id
    for which, message in [
        ("nonsense", "expected latest, a sweep's folder or the id of its parent run, got 'nonsense'; there are a"),
        (no_such_id, f"expected the id of a sweep's parent run, got '{no_such_id}'"),
        (nested, "which is a nested run; write the id of its parent"),
    ]:
        result = run_command(tmp_path, which)
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_sweep_without_a_finished_run_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    Description("a", 1.0, "sqlite:///mlflow.db", SETTINGS, []).write(folder)
    write_run(folder, ran(1, "FAILED"))
    result = run_command(tmp_path)
    assert result.exit_code == 2
    assert result.stderr == "error: latest: expected a sweep with a finished run, got one where 1 ended otherwise\n"


@pytest.mark.slow
def test_a_real_sweep_is_compared_with_its_seeds_from_the_folder_and_from_the_database(tmp_path: Path) -> None:
    done = sweep(cwd=tmp_path, lr="0.01,0.001", batch_size="100", shuffle="true", seed="0,1", epochs="1")
    [folder] = (tmp_path / "runs").iterdir()
    assert done.returncode in (0, 3), done.stderr
    maintenance.sync(folder, "")  # a busy machine may not have delivered everything by the end
    from_folder = run_command(tmp_path)
    assert from_folder.exit_code == 0, from_folder.output
    assert from_folder.stdout.count("  2  ") >= 2  # two seeds each
    assert "Welch's t-test" in from_folder.stdout
    [state] = json.loads((folder / "delivered.json").read_text()).values()
    folder.rename(tmp_path / "elsewhere")
    assert run_command(tmp_path, state["run_id"]).stdout == from_folder.stdout


def test_the_command_has_help_with_an_example() -> None:
    assert compare.name == "compare"
    assert "Example:" in CliRunner().invoke(main, ["compare", "--help"]).output


def test_the_latest_may_be_that_of_a_loop_of_ones_own(tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs" / "made", f"sqlite:///{tmp_path}/mlflow.db")
    write_sweep(tmp_path / "runs" / "own", f"sqlite:///{tmp_path}/mlflow.db", settings={})
    assert run_command(tmp_path, "latest").output == run_command(tmp_path, "own").output


def test_two_sweeps_of_the_same_name_are_no_repetitions_of_each_other() -> None:
    first, second = (RankedRun("baseline", replace(ran(1), time=time)) for time in (1.0, 2.0))
    board = make_leaderboard(with_unique_names([[first], [second], [first]]))
    assert [(row.runs[0].sweep, len(row.runs)) for row in board.rows] == [
        ("baseline", 1),
        ("baseline (2)", 1),
    ]


def test_hyperparameters_that_are_called_like_our_columns_keep_both() -> None:
    run = replace(ran(1), params={"rank": 4, "sweep": "fast"})
    [row] = table_rows(make_leaderboard([RankedRun("mine", run)]))
    assert (row["rank"], row["param_rank"], row["sweep"], row["param_sweep"]) == (1, 4, "mine", "fast")


def finals(index: int, **metrics: float) -> RunResult:
    """Return a run without epochs that has these final values."""
    return RunResult(index, f"{index}_lr=0.{index}", {"lr": index / 10}, "FINISHED", (), metrics, time=1010.0)


def write_task(folder: Path, uri: str, *results: RunResult, goal: str = "") -> None:
    """Write the journals of a sweep of a task of somebody's own."""
    folder.mkdir(parents=True)
    settings = {"lr": ",".join(str(result.params["lr"]) for result in results)}
    Description(folder.name, time.time(), uri, settings, [], goal=goal, columns=["lr"]).write(folder)
    parent = journal.Journal(folder / journal.FILE_NAME)
    parent.append(entries.opened(folder.name, name=folder.name, time=1000.0, tags={"sweeptrail.folder": str(folder)}))
    told = {"sweeptrail.settings": json.dumps(settings), "sweeptrail.goal": goal, "sweeptrail.columns": "lr"}
    parent.append(entries.tags(told))
    for result in results:
        write_run(folder, result, final=",".join(result.metrics))
    for file in results_table.save(results_table.rows(results), folder / "results"):
        parent.append(entries.artifact(file.name))
    parent.append(entries.closed("FINISHED", time=1020.0))
    parent.close()


def by_step(folder: Path, index: int, name: str, *values: float) -> None:
    """Put what a run has logged by steps at the beginning of its journal, as if it had done so while it went on."""
    path = folder / f"{index}_lr=0.{index}" / journal.FILE_NAME
    opened, *rest = [entry for entry, _ in journal.read(path)]
    path.unlink()
    steps = [Metrics({name: value}, step, 1_001_000 + step) for step, value in enumerate(values, start=1)]
    append(path, opened, *steps, *rest)


def epochs_of(index: int, *values: float) -> tuple[Epoch, ...]:
    """Return epochs that have neither loss nor accuracy."""
    return tuple(
        Epoch(index, number, None, None, 2.0, 2.0 * number, {"rmse": value}, time=1000.0 + number)
        for number, value in enumerate(values, start=1)
    )


@pytest.mark.slow
def test_runs_without_epochs_are_compared_by_their_final_values_or_those_of_their_highest_step(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "runs" / "own"
    write_task(folder, uri, finals(1, rmse=0.5), finals(2, rmse=0.25), finals(3), goal="min:rmse")
    by_step(folder, 3, "rmse", 0.1, 0.3)
    shown = run_command(tmp_path, "own").output
    assert shown.splitlines() == [
        "rank   lr    rmse  run",
        "   1  0.2  0.2500    2",
        "   2  0.3  0.3000    3",
        "   3  0.1  0.5000    1",
        "",
        "lr=0.2 is 0.0500 ahead of lr=0.3 in rmse; one seed cannot say how sure that is: write seed=0,1,2.",
    ]
    run_id = deliver(folder, uri)
    here, there = runs_in(folder), gather(uri, run_id)
    assert untimed(there) == untimed(here)
    assert [one.result.duration for one in there] == [one.result.duration for one in here] == [10.0] * 3
    folder.rename(tmp_path / "elsewhere")
    assert run_command(tmp_path, run_id).output == shown


def test_a_metric_of_every_epoch_may_have_a_final_value_and_other_metrics_steps_of_their_own(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "runs" / "own"
    epochs = (epochs_of(1, 0.5, 0.25), epochs_of(2, 0.5, 0.75, 1.0))
    write_task(folder, uri, *(replace(finals(i, rmse=0.125), epochs=each) for i, each in enumerate(epochs, start=1)))
    by_step(folder, 1, "gradient", 1.0, 2.0, 3.0)
    run_id = deliver(folder, uri)
    here = runs_in(folder)
    assert untimed(gather(uri, run_id)) == untimed(here)
    pulled = pull(uri, run_id, tmp_path / "pulled")
    assert pulled
    found = [replace(one.result, latest={}) for one in runs_in(pulled)]
    # Which of the metrics at the step of an epoch were logged by steps the server does not know.
    assert [each.metrics for each in found[0].epochs] == [
        {**epoch.metrics, "gradient": float(epoch.epoch)} for epoch in here[0].result.epochs
    ]
    assert found[1] == here[1].result
    assert [one.result.finals for one in runs_in(pulled)] == [
        one.result.finals | more for one, more in zip(here, [{"gradient": 2.0}, {}], strict=True)
    ]


def test_the_file_of_all_runs_keeps_those_without_epochs() -> None:
    runs = [
        RankedRun("mine", replace(finals(1, rmse=0.5), latest={"gradient": math.inf}, duration=2.5), "a", "0"),
        RankedRun("mine", replace(finals(2, rmse=0.5), metrics={}), "b", "0"),
    ]
    found = from_json(as_json(make_leaderboard(runs), "parent"), "mine", Where("0", "parent"), None)
    assert found == runs
    assert [one.result.duration for one in found] == [2.5, None]


@pytest.mark.slow
def test_a_run_of_a_sweep_that_goes_on_has_what_the_server_knows_of_it(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "runs" / "own"
    write_task(folder, uri, replace(finals(1, auc=0.5), epochs=epochs_of(1, 0.5, 0.25)), finals(2, rmse=0.5))
    (folder / "results.json").write_text("[]")
    found = gather(uri, deliver(folder, uri))
    assert [one.result.finals for one in found] == [
        {"auc": 0.5, "rmse": 0.25, "epoch_duration": 2.0, "run_duration": 4.0},
        {"rmse": 0.5},
    ]
    assert [len(one.result.epochs) for one in found] == [1, 0]


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("table", "   1  0.2         100     True         0.2500"),
        ("csv", ",loss_deviation,"),
        ("json", '"min:loss"'),
        ("html", "By training loss in the last epoch, the lowest first."),
    ],
)
def test_another_goal_ranks_anew_in_every_form(form: str, shown: str, tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/mlflow.db")
    for goal, first, second in (("max:loss", "1_lr=0.1", "2_lr=0.2"), ("min:loss", "2_lr=0.2", "1_lr=0.1")):
        result = run_command(tmp_path, "a", "--goal", goal, "--format", form)
        assert result.exit_code == 0, result.output
        if form in ("csv", "json"):
            assert result.stdout.index(first) < result.stdout.index(second)
    assert shown in result.stdout


def test_sweeps_with_different_goals_need_one_to_be_compared_by(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_task(tmp_path / "runs" / "a", uri, finals(1, rmse=0.5, accuracy=0.9), goal="min:rmse")
    write_task(tmp_path / "runs" / "b", uri, finals(1, rmse=0.25, accuracy=0.8), goal="max:accuracy")
    refused = run_command(tmp_path, "a", "b")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "error: goal: expected sweeps that have the same, got min:rmse (a) and max:accuracy (b); "
        "write --goal min:rmse, say\n"
    )
    for goal, first in (("min:rmse", "b"), ("max:accuracy", "a")):
        chosen = json.loads(run_command(tmp_path, "a", "b", "--goal", goal, "--format", "json").stdout)
        assert (chosen["goal"], chosen["places"][0]["sweep"]) == (goal, first)


@pytest.mark.parametrize("goal", ["rmse", "max:", "least:rmse"])
def test_a_goal_that_cannot_be_understood_is_one_clear_line(goal: str, tmp_path: Path) -> None:
    write_task(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/mlflow.db", finals(1, rmse=0.5))
    refused = run_command(tmp_path, "a", "--goal", goal)
    assert refused.exit_code == 2
    assert refused.stderr == f"error: goal: expected max:NAME or min:NAME, got {goal!r}; write min:loss, say\n"


@pytest.mark.parametrize(
    ("goal", "line"),
    [
        ([], "nothing is ranked: no goal was given; the runs have rmse, mae; write --goal min:rmse or --goal max:rmse"),
        (["--goal", "max:auc"], "nothing is ranked: no run has auc, the goal; the runs have rmse, mae"),
    ],
)
def test_when_nothing_is_ranked_every_form_says_why(goal: list[str], line: str, tmp_path: Path) -> None:
    write_task(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/mlflow.db", finals(1, rmse=0.5, mae=0.25))
    assert run_command(tmp_path, "a", *goal).stdout == f"{line}\n"
    csv = run_command(tmp_path, "a", *goal, "--format", "csv")
    assert (csv.exit_code, csv.stdout, csv.stderr) == (0, "rank\n", f"sweeptrail: {line}\n")
    content = json.loads(run_command(tmp_path, "a", *goal, "--format", "json").stdout)
    assert (content["remark"], content["places"], content["unranked"][0]["status"]) == (line, [], "FINISHED")
    assert line[1:] in run_command(tmp_path, "a", *goal, "--format", "html").stdout


def test_a_run_without_the_goal_s_metric_is_named_and_not_ranked(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_task(tmp_path / "runs" / "a", uri, finals(1, rmse=0.5), finals(2, mae=0.0), goal="min:rmse")
    lines = run_command(tmp_path, "a").stdout.splitlines()
    assert lines[1:] == ["   1  0.1  0.5000    1", "", "2_lr=0.2  FINISHED  has no rmse: not ranked"]
