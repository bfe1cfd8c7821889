"""The ranking, its intervals, and what is said of the first two."""

import csv
import io
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from sweeptrail.records import Epoch, RunResult, Status
from sweeptrail.results.columns import csv_text, table_rows
from sweeptrail.results.leaderboard import RankedRun, Row, make_leaderboard
from sweeptrail.results.words import verdict


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
    assert time.process_time() - began < 0.5  # 0.02 on a quiet machine
    assert [row.mean for row in board.rows] == sorted((row.mean for row in board.rows), reverse=True)
    assert len(table_rows(board)) == 1000
