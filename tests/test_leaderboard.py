"""The ranking, its intervals, and what is said of the first two."""

import csv
import io
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from sweeptrail.errors import SettingsError
from sweeptrail.records import Epoch, Goal, RunResult, Status
from sweeptrail.results.columns import csv_text, table_rows
from sweeptrail.results.leaderboard import RankedRun, Row, make_leaderboard
from sweeptrail.results.words import number, verdict, why_no_champion, why_unranked


def ranked(
    index: int,
    accuracy: float,
    *,
    sweep: str = "mine",
    status: Status = "FINISHED",
    validated: bool = True,
    epochs: Sequence[int] = (1, 2),
    **params: Any,
) -> RankedRun:
    """Return a run that reached this accuracy in its last epoch, in all others nothing."""
    params = params or {"lr": index / 10}
    reached = [accuracy if epoch == epochs[-1] else 0.0 for epoch in epochs]
    told = tuple(
        Epoch(index, epoch, 0.5, value / 2, 1.0, 1.0, extra={"validation_accuracy": value} if validated else {})
        for epoch, value in zip(epochs, reached, strict=True)
    )
    return RankedRun(sweep, RunResult(index, f"{index}_run", params, status, told, {"test_accuracy": accuracy - 0.1}))


def order(*runs: RankedRun) -> list[int]:
    return [row.runs[0].result.index for row in make_leaderboard(runs).rows]


def repeated(*values: float, lr: float = 0.1, start: int = 1) -> list[RankedRun]:
    return [ranked(start + seed, value, lr=lr, seed=seed) for seed, value in enumerate(values)]


def test_the_best_in_the_last_epoch_is_first() -> None:
    board = make_leaderboard([ranked(1, 0.7), ranked(2, 0.9), ranked(3, 0.8)])
    assert [(row.rank, row.runs[0].result.index, row.mean) for row in board.rows] == [
        (1, 2, 0.9),
        (2, 3, 0.8),
        (3, 1, 0.7),
    ]
    assert board.ranking == "validation_accuracy"
    assert board.champion
    assert board.champion.result.index == 2


def test_without_validation_the_training_accuracy_ranks_and_is_called_so() -> None:
    board = make_leaderboard([ranked(1, 0.7, validated=False), ranked(2, 0.9)])
    assert board.ranking == "accuracy"
    assert [row.mean for row in board.rows] == [0.45, 0.35]
    assert "in training accuracy" in verdict(board)


def test_ties_go_by_the_number_and_nan_comes_last() -> None:
    assert order(ranked(1, math.nan), ranked(4, 0.5), ranked(3, 0.5), ranked(2, 0.1)) == [3, 4, 2, 1]


def test_only_runs_that_finished_an_epoch_compete() -> None:
    failed, killed = ranked(2, 0.9, status="FAILED"), ranked(3, 0.9, status="KILLED")
    empty = RankedRun("mine", RunResult(4, "4_run", {"lr": 0.4}, "FINISHED"))
    board = make_leaderboard([failed, ranked(1, 0.1, validated=False), killed, empty])
    assert [row.runs[0].result.index for row in board.rows] == [1]
    assert board.unranked == (failed, killed, empty)
    assert verdict(board) == ""


def test_nothing_finished_is_a_board_without_champion() -> None:
    board = make_leaderboard([ranked(1, 0.9, status="FAILED")])
    assert (board.rows, board.champion, table_rows(board)) == ((), None, [])


@pytest.mark.parametrize("values", [(0.81, 0.84), (0.9, 0.88, 0.93), (0.5, 0.6, 0.7, 0.1, 0.55)])
def test_seeds_are_one_place_with_mean_deviation_and_students_interval(values: tuple[float, ...]) -> None:
    [row] = make_leaderboard(repeated(*values)).rows
    low, high = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
    assert row.mean == pytest.approx(sum(values) / len(values))
    assert row.deviation == pytest.approx(stats.tstd(values))
    assert row.interval == pytest.approx((low, high))
    assert row.params == {"lr": 0.1}
    assert [one.result.metrics["test_accuracy"] + 0.1 for one in row.runs] == sorted(values, reverse=True)


def test_the_interval_of_three_seeds_as_it_is_in_a_book() -> None:
    # Mean 0.9, deviation 0.01, and Student's t with two degrees of freedom is 4.303: 4.303 * 0.01 / sqrt(3).
    [row] = make_leaderboard(repeated(0.89, 0.9, 0.91)).rows
    assert row.interval == pytest.approx((0.9 - 0.02484, 0.9 + 0.02484), abs=1e-5)


def test_a_single_seed_has_neither_deviation_nor_interval() -> None:
    [row] = make_leaderboard(repeated(0.9)).rows
    assert (row.deviation, row.interval) == (None, None)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((0.90, 0.91, 0.92), (0.80, 0.81, 0.83), "can be told apart"),
        ((0.90, 0.91, 0.92), (0.89, 0.90, 0.93), "cannot be told apart"),
        ((0.95, 0.95), (0.90, 0.90, 0.90), "can be told apart"),
        ((0.90, 0.90), (0.90, 0.90), "cannot be told apart"),
    ],
)
def test_the_verdict_on_seeds_is_welchs(first: tuple[float, ...], second: tuple[float, ...], words: str) -> None:
    text = verdict(make_leaderboard([*repeated(*first), *repeated(*second, lr=0.2, start=10)]))
    assert f"they {words}" in text
    if len(set(first)) > 1:
        assert f"p = {stats.ttest_ind(first, second, equal_var=False).pvalue:.2g}" in text


def test_the_verdict_on_single_seeds_says_by_how_much_and_what_to_do() -> None:
    board = make_leaderboard([ranked(1, 0.91), ranked(2, 0.9)])
    assert verdict(board) == (
        "lr=0.1 is 0.0100 ahead of lr=0.2 in validation accuracy; "
        "one seed cannot say how sure that is: write seed=0,1,2."
    )


def test_there_is_no_verdict_on_what_is_no_number() -> None:
    assert verdict(make_leaderboard([ranked(1, 0.9), ranked(2, math.nan)])) == ""


def test_the_same_combination_in_two_sweeps_has_two_places() -> None:
    board = make_leaderboard([ranked(1, 0.8, sweep="a", lr=0.1), ranked(1, 0.9, sweep="b", lr=0.1)])
    assert [row.runs[0].sweep for row in board.rows] == ["b", "a"]
    assert verdict(board).startswith("lr=0.1 of b is 0.1000 ahead of lr=0.1 of a")


def test_the_table_has_a_row_for_each_place_and_a_column_for_each_hyperparameter() -> None:
    board = make_leaderboard([*repeated(0.9, 0.8), ranked(9, 0.7, sweep="other", optimizer="sgd")])
    first, second = csv.DictReader(io.StringIO(csv_text(board)))
    row: Row = board.rows[0]
    assert row.interval
    assert {name: first[name] for name in ("rank", "sweep", "lr", "optimizer", "seeds", "run")} == {
        "rank": "1",
        "sweep": "mine",
        "lr": "0.1",
        "optimizer": "",
        "seeds": "2",
        "run": "1_run",
    }
    assert (float(first["validation_accuracy_low"]), float(first["validation_accuracy_high"])) == row.interval
    assert float(first["test_accuracy"]) == pytest.approx(0.75)
    assert (second["sweep"], second["optimizer"], second["validation_accuracy_deviation"]) == ("other", "sgd", "")


def test_a_thousand_runs_are_ranked_in_no_time() -> None:
    runs = [ranked(index, (index * 37 % 1000) / 1000, lr=index) for index in range(1, 1001)]
    began = time.process_time()
    board = make_leaderboard(runs)
    assert time.process_time() - began < 5  # of the processor's own time: 0.02 are usual
    assert [row.mean for row in board.rows] == sorted((row.mean for row in board.rows), reverse=True)
    assert len(table_rows(board)) == 1000


def measured(index: int, *, sweep: str = "mine", goal: Goal | None = None, **metrics: float) -> RankedRun:
    """Return a run without epochs that has these final values."""
    return RankedRun(sweep, RunResult(index, f"{index}_run", {"lr": index}, "FINISHED", metrics=metrics), goal=goal)


LEAST = Goal("rmse", greater_is_better=False)


def test_a_regression_has_the_champion_with_the_least_error() -> None:
    board = make_leaderboard([measured(1, rmse=0.5, goal=LEAST), measured(2, rmse=0.2, goal=LEAST)])
    assert [row.mean for row in board.rows] == [0.2, 0.5]
    assert verdict(board).startswith("lr=2 is 0.3000 ahead of lr=1 in rmse;")


def test_without_a_goal_and_without_a_usual_metric_nothing_is_ranked_and_it_says_what_to_write() -> None:
    board = make_leaderboard([measured(1, rmse=0.5, mae=0.4), measured(2, rmse=0.2)])
    assert (board.rows, board.champion, board.ranked_by, board.ranking) == ((), None, None, "")
    assert why_no_champion(board) == (
        "nothing is ranked: no goal was given; the runs have rmse, mae; write --goal min:rmse or --goal max:rmse"
    )


def test_a_run_without_the_goal_s_metric_is_not_ranked_and_it_is_said() -> None:
    board = make_leaderboard([measured(1, mae=0.0, goal=LEAST), measured(2, rmse=0.2, goal=LEAST)])
    assert [row.runs[0].result.index for row in board.rows] == [2]
    assert [why_unranked(run, board) for run in board.unranked] == ["has no rmse: not ranked"]
    assert why_no_champion(board) == ""


@pytest.mark.parametrize(
    ("name", "hint"), [("rsme", "; did you mean --goal min:rmse?"), ("auc", ""), ("validation_accuracy", "")]
)
def test_a_goal_that_no_run_has_is_said_with_what_they_have(name: str, hint: str) -> None:
    board = make_leaderboard([measured(1, rmse=0.5, mae=0.4)], Goal(name, greater_is_better=False))
    assert why_no_champion(board) == f"nothing is ranked: no run has {name}, the goal; the runs have rmse, mae{hint}"
    assert why_unranked(board.unranked[0], board) == ""


def test_finished_runs_without_any_metric_are_said_to_have_none() -> None:
    assert why_no_champion(make_leaderboard([measured(1)])) == "nothing is ranked: no metric was logged"


@pytest.mark.parametrize(
    ("metrics", "goal"),
    [
        (("loss", "accuracy", "validation_loss", "validation_accuracy"), "max:validation_accuracy"),
        (("loss", "accuracy", "validation_loss"), "max:accuracy"),
        (("loss", "validation_loss", "rmse"), "min:validation_loss"),
        (("rmse", "loss"), "min:loss"),
    ],
)
def test_without_a_goal_the_first_usual_metric_ranks_that_every_run_has(metrics: Sequence[str], goal: str) -> None:
    names = (metrics, [*metrics, "validation_accuracy", "accuracy"])
    results = [
        RunResult(index, "", {}, "FINISHED", metrics=dict.fromkeys(each, 0.5)) for index, each in enumerate(names)
    ]
    assert str(make_leaderboard(RankedRun("mine", result) for result in results).goal) == goal


def test_sweeps_with_different_goals_are_compared_by_the_one_that_is_given() -> None:
    runs = [
        measured(1, sweep="a", rmse=0.5, accuracy=0.9, goal=LEAST),
        measured(2, sweep="b", rmse=0.2, accuracy=0.8, goal=Goal("accuracy")),
        measured(3, sweep="c", rmse=0.1),
    ]
    with pytest.raises(SettingsError) as caught:
        make_leaderboard(runs)
    assert str(caught.value) == (
        "goal: expected sweeps that have the same, got min:rmse (a) and max:accuracy (b); write --goal min:rmse, say"
    )
    assert [row.runs[0].result.index for row in make_leaderboard(runs, LEAST).rows] == [3, 2, 1]
    assert [row.runs[0].result.index for row in make_leaderboard(runs, Goal("accuracy")).rows] == [1, 2]
    assert [row.runs[0].result.index for row in make_leaderboard([runs[0], runs[2]]).rows] == [3, 1]


@pytest.mark.parametrize(("goal", "order"), [("max:x", [2, 1, 3, 4]), ("min:x", [3, 1, 2, 4])])
def test_infinity_is_a_number_and_nan_comes_last(goal: str, order: list[int]) -> None:
    values = {1: 0.5, 2: math.inf, 3: -math.inf, 4: math.nan}
    board = make_leaderboard([measured(index, x=value) for index, value in values.items()], Goal.parse(goal))
    assert [row.runs[0].result.index for row in board.rows] == order
    assert verdict(board) == ""


def test_where_every_value_is_nan_there_is_no_champion() -> None:
    board = make_leaderboard([measured(1, loss=math.nan), measured(2, loss=math.nan)])
    assert (len(board.rows), board.champion) == (2, None)
    assert why_no_champion(board) == "there is no champion: loss is nan everywhere"


@pytest.mark.parametrize("values", [(math.inf, 1.0), (math.inf, -math.inf), (1e308, 1.7e308), (1e200, -1e200)])
def test_seeds_beyond_what_a_float_holds_have_a_place_without_bounds(values: tuple[float, ...]) -> None:
    runs = [
        RunResult(seed, "", {"lr": 1, "seed": seed}, "FINISHED", metrics={"loss": v}) for seed, v in enumerate(values)
    ]
    [row] = make_leaderboard([RankedRun("mine", run) for run in runs]).rows
    assert row.interval is None
    assert len(row.runs) == 2


def test_the_value_of_a_run_is_its_final_one_else_its_last_epoch_s_else_that_of_its_highest_step() -> None:
    epochs = tuple(Epoch(1, number, 0.1 * number, None, 1.0, 1.0, {"a": number, "b": number}) for number in (1, 2))
    run = RunResult(1, "", {}, "FINISHED", epochs, {"a": 10.0}, latest={"a": 5.0, "b": 5.0, "c": 5.0})
    means = [make_leaderboard([RankedRun("mine", run)], Goal(name)).rows[0].mean for name in "abc"]
    assert means == [10.0, 2, 5.0]


def test_names_that_hyperparameters_metrics_and_our_own_columns_share_keep_all_their_values() -> None:
    params = {"loss": "hinge", "rank": 4, "C": 0.5}
    metrics = {"rmse": 0.25, "loss": 0.75, "C": 2.0, "run": 7.0}
    run = RankedRun("mine", RunResult(1, "1_run", params, "FINISHED", metrics=metrics))
    [row] = table_rows(make_leaderboard([run], LEAST))
    assert (row["rank"], row["param_rank"], row["param_loss"], row["C"]) == (1, 4, "hinge", 0.5)
    assert (row["rmse"], row["loss"], row["C_metric"], row["run"], row["run_metric"]) == (0.25, 0.75, 2.0, "1_run", 7.0)
    [row] = table_rows(make_leaderboard([run], Goal("C")))
    assert (row["C"], row["C_metric"]) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.87061, "0.8706"), (0.0, "0.0000"), (12345.5, "12345.5000"), (0.00012345, "0.0001234"), (-2.5e9, "-2.5e+09")],
)
def test_numbers_of_any_size_can_be_told_apart(value: float, text: str) -> None:
    assert number(value) == text
