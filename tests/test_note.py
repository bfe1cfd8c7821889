"""The description of the parent run: what it says, that it fits, and the links in it."""

import math
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from mlflow import MlflowClient

from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.parent_journal import ParentJournal
from sweeptrail.records import Epoch, Goal, RunResult, Status
from sweeptrail.results.leaderboard import RankedRun, make_leaderboard
from sweeptrail.results.markdown import note
from sweeptrail.results.parent_run import Standings
from sweeptrail.tracking.ui_links import Where, resolve
from sweeptrail.tracking.uri import Tracking
from tests import written as entries
from tests.commands import new_store
from tests.small_sweep import write_run

UI_LIMIT = 8000
"""MAX_TAG_VAL_LENGTH in mlflow/utils/validation.py."""


def ranked(
    index: int, *, name: str = "", status: Status = "FINISHED", error: str | None = None, **params: Any
) -> RankedRun:
    accuracy = 1 - index / 10_000
    epochs = (Epoch(index, 1, 0.5, 0.5, 1.0, 1.0, extra={"validation_accuracy": accuracy}),)
    name = name or f"{index}_lr=0.01,batch_size={index}"
    params = params or {"lr": 0.01, "batch_size": index}
    return RankedRun("mine", RunResult(index, name, params, status, epochs, {"test_accuracy": 0.25}, error))


def identity(one: RankedRun) -> str:
    return f"{'f' * 32}/{one.result.index}"


def text_of(*runs: RankedRun, remark: str = "") -> str:
    return note(make_leaderboard(runs), identity_of=identity, remark=remark)


def resolved(text: str) -> str:
    return resolve(text, Where("1" * 18, "a" * 32), lambda target: Where("1" * 18, target[-4:].rjust(32, "b")))


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(text))


def test_the_champion_is_in_the_first_line_with_its_accuracies() -> None:
    first = text_of(ranked(2), ranked(1)).splitlines()[0]
    assert first == (
        f"**Champion: [1\\_lr=0.01,batch\\_size=1](run:{identity(ranked(1))})**, "
        "validation accuracy 0.9999, test accuracy 0.2500"
    )


def test_what_a_person_has_written_stands_above() -> None:
    assert text_of(ranked(1), remark="**Why**: a try").startswith("**Why**: a try\n\n**Champion")
    assert text_of(remark="a try").startswith("a try\n\nNo run has finished yet.")


def test_the_verdict_the_ranks_and_the_files_follow() -> None:
    page = rendered(resolved(text_of(ranked(1), ranked(2), ranked(3))))
    assert "lr=0.01, batch_size=1 is 0.0001 ahead of lr=0.01, batch_size=2 in validation accuracy" in page
    assert page.count("<tr>") == 4
    assert "/runs/" + "a" * 32 + '/artifacts/report.html?workflowType=machine_learning">Report</a>' in page
    assert "/artifacts/leaderboard.csv" in page
    assert ">Compare all 3 runs</a>" in page


def test_seeds_show_their_interval() -> None:
    page = rendered(text_of(ranked(1, lr=0.1, seed=0), ranked(2, lr=0.1, seed=1)))
    assert '<th style="text-align:right">95 % interval</th>' in page
    assert '<td style="text-align:right">0.9992 to 1.0005</td>' in page
    assert '<td style="text-align:right">2</td>' in page


def test_a_run_that_failed_is_named_with_its_reason() -> None:
    page = rendered(text_of(ranked(1), ranked(2, status="FAILED", error="Traceback\nValueError: loss is nan")))
    assert "1 run did not finish:" in page
    assert "FAILED ValueError: loss is nan" in page


def test_while_nothing_has_finished_it_says_so() -> None:
    assert text_of().startswith("No run has finished yet.")
    assert "compare:" not in text_of(ranked(1))


@pytest.mark.parametrize("hostile", ["a|b", "[x](run:y)", "<script>alert(1)</script>", "**b** `c` ~~d~~ _e_", "&lt;"])
def test_nothing_that_a_name_or_a_reason_says_means_anything_to_markdown(hostile: str) -> None:
    page = rendered(resolved(text_of(ranked(1, name=hostile), ranked(2, status="FAILED", error=hostile))))
    shown = hostile.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert page.count(f">{shown}</a>") == 2
    assert f"FAILED {shown}</li>" in page
    assert page.count("<tr>") == 2


@pytest.mark.parametrize("num_runs", [8, 21, 100, 1000])
@pytest.mark.parametrize(
    ("name", "error"),
    [("", "ValueError: loss is nan"), ("9_" + "x" * 200, "E: " + "y" * 3000), ("9_" + "_<" * 90, "E: " + "|&" * 999)],
)
def test_the_longest_note_fits_into_a_tag_with_all_its_addresses(num_runs: int, name: str, error: str) -> None:
    runs = [ranked(index, name=name) for index in range(1, num_runs + 1)]
    runs += [ranked(index, name=name, status="FAILED", error=error) for index in range(2000, 2000 + num_runs)]
    remark = "r" * 1000 if len(name) > 2 else ""
    text = resolved(text_of(*runs, remark=remark))
    assert len(text) <= 7500 < UI_LIMIT
    assert text.startswith(remark)
    assert rendered(text).count("<tr>") > 5
    assert "did not finish" in text
    assert "#/compare-runs?runs=%5B%22" in text
    if num_runs > 21:
        assert "more in leaderboard.csv" in text
        assert "Compare the best" in text


def test_the_comparison_holds_as_many_runs_as_fit_and_the_usual_sweep_whole() -> None:
    eight = resolved(text_of(*(ranked(index) for index in range(1, 9))))
    assert eight.count("%22") == 2 * (8 + 1)
    thousand = resolved(text_of(*(ranked(index) for index in range(1, 1001))))
    assert thousand.count("%22") > 2 * 50


def test_a_link_to_a_run_that_the_server_has_not_got_is_plain_text() -> None:
    known = {"s/1": Where("7", "one"), "s/2": Where("7", "two")}
    text = (
        "[a](run:s/1) [b](run:s/3) [c](compare:s/1,s/3,s/2) [d](compare:s/1,s/3) [e](artifact:f.csv) \\[g\\](run:s/1)"
    )
    assert resolve(text, Where("7", "own"), known.get) == (
        "[a](#/experiments/7/runs/one?workflowType=machine_learning) b "
        "[c](#/compare-runs?runs=%5B%22one%22,%22two%22%5D&experiments=%5B%227%22%5D&workflowType=machine_learning) d "
        "[e](#/experiments/7/runs/own/artifacts/f.csv?workflowType=machine_learning) \\[g\\](run:s/1)"
    )


def write_parent(folder: Path, *notes: str) -> None:
    written = journal.Journal(folder / journal.FILE_NAME)
    written.append(entries.opened(folder.name, name="parent", time=1000.5, tags={}))
    for text in notes:
        written.append(entries.note(text))
    written.append(entries.closed("FINISHED", time=1020))
    written.close()


def add_note(folder: Path, text: str) -> None:
    written = journal.Journal(folder / journal.FILE_NAME)
    written.append(entries.note(text))
    written.close()


def parent_in(store: str) -> Any:
    [parent] = [run for run in MlflowClient(store).search_runs(["0"]) if run.info.run_name == "parent"]
    return parent


def test_a_note_that_waited_links_to_runs_that_waited_with_it_and_only_the_last_one_is_sent(tmp_path: Path) -> None:
    store, folder = new_store(tmp_path), tmp_path / "sweep"
    write_parent(folder, "[old](run:sweep/1)", "[first](run:sweep/1) [never](run:sweep/9)")
    write_run(folder, 1)
    courier = Courier(store, folder)
    sent: list[str] = []
    log = courier.server.log

    def remember(run_id: str, **what: Any) -> None:
        sent.extend(value for name, value in what["tags"].items() if name == "mlflow.note.content")
        log(run_id, **what)

    courier.server.log = remember  # type: ignore[method-assign]  # the store itself keeps no history of a tag
    courier.deliver()
    assert courier.waiting() == 0
    assert courier.refusals == []
    box = courier.where("sweep/1")
    assert box
    assert sent == [f"[first](#/experiments/0/runs/{box.run_id}?workflowType=machine_learning) never"]
    parent = parent_in(store)
    assert parent.data.tags["mlflow.note.content"] == sent[0]
    assert parent.info.status == "FINISHED"


def test_a_later_courier_finds_the_runs_that_an_earlier_one_has_delivered(tmp_path: Path) -> None:
    store, folder = new_store(tmp_path), tmp_path / "sweep"
    write_parent(folder)
    write_run(folder, 1)
    Courier(store, folder).deliver()
    add_note(folder, "[first](run:sweep/1)")
    Courier(store, folder).deliver()
    assert parent_in(store).data.tags["mlflow.note.content"].startswith("[first](#/experiments/0/runs/")


def regression(*values: float | None, goal: str = "min:rmse") -> str:
    """Return the note of runs without epochs, of which those with None have logged something else."""
    metrics = [{"mae": 1.0} if value is None else {"rmse": value} for value in values]
    results = [
        RunResult(index, f"{index}_run", {"lr": index}, "FINISHED", metrics=each)
        for index, each in enumerate(metrics, start=1)
    ]
    runs = [RankedRun("mine", result, goal=Goal.parse(goal)) for result in results]
    return note(make_leaderboard(runs), identity_of=identity)


def test_where_less_is_better_the_least_is_the_champion_and_accuracy_is_not_mentioned() -> None:
    text = regression(0.5, 0.2)
    assert text.startswith(f"**Champion: [2\\_run](run:{'f' * 32}/2)**, rmse 0.2000\n")
    assert "accuracy" not in text
    assert "nan" not in text


def test_a_finished_run_without_the_goal_s_metric_is_named_as_not_ranked() -> None:
    page = rendered(regression(0.5, None))
    assert "1 run not ranked:" in page
    assert "FINISHED has no rmse: not ranked" in page


def test_the_note_says_when_no_run_has_the_goal_s_metric() -> None:
    page = rendered(regression(0.5, 0.2, goal="max:rsme"))
    assert "Nothing is ranked: no run has rsme, the goal; the runs have rmse; did you mean --goal max:rmse?" in page
    assert "Champion" not in page
    assert "<table>" not in page


@pytest.mark.slow
def test_the_champion_of_a_goal_where_less_is_better_is_in_the_tags_and_metrics_of_the_parent(tmp_path: Path) -> None:
    store, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "parent"
    folder.mkdir()
    parent = ParentJournal(folder, "sweep")
    parent.begin(Tracking.from_environment(uri=store), {})
    standings = Standings(parent, store, goal=Goal("rmse", greater_is_better=False))
    results = [
        RunResult(index, f"{index}_run", {"lr": index}, "FINISHED", metrics={"rmse": value, "mae": 2 * value})
        for index, value in enumerate((0.5, 0.25), start=1)
    ]
    standings.write(standings.board(results))
    parent.close("FINISHED")
    Courier(store, folder).deliver()
    run = parent_in(store)
    assert run.data.tags["sweeptrail.champion"] == "2_run"
    assert run.data.metrics == {"champion_rmse": 0.25, "champion_mae": 0.5}


@pytest.mark.slow
def test_the_best_so_far_is_a_metric_of_the_parent_and_told_twice_it_is_there_once(tmp_path: Path) -> None:
    store, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "parent"
    folder.mkdir()
    parent = ParentJournal(folder, "sweep")
    parent.begin(Tracking.from_environment(uri=store), {})
    standings = Standings(parent, store, goal=Goal("rmse", greater_is_better=False))
    # The second ended before the first, the last was stopped early.
    values = ((1, 0.5, 2.0, ""), (2, 0.7, 1.0, ""), (3, math.nan, 3.0, ""), (4, 0.6, 4.0, ""), (5, 0.3, 5.0, "so far"))
    results = [
        RunResult(index, f"{index}_run", {"lr": index}, "FINISHED", metrics={"rmse": value}, time=at, stopped_early=why)
        for index, value, at, why in values
    ]
    standings.write_best(standings.board(results[:2]))
    standings.write_best(standings.board(results))
    parent.close("FINISHED")
    Courier(store, folder).deliver()
    told = MlflowClient(store).get_metric_history(parent_in(store).info.run_id, "best_rmse")
    assert sorted((each.step, each.value) for each in told) == [(1, 0.7), (2, 0.5), (3, 0.5)]
