"""What the report, the description and the terminal say of a search."""

import io
import math
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from sweeptrail.records import Epoch, Goal, RunResult
from sweeptrail.results import report
from sweeptrail.results.compare import table
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, make_leaderboard, running_best
from sweeptrail.results.markdown import note
from sweeptrail.results.report import facts, plots
from sweeptrail.results.words import saved, verdict
from sweeptrail.search.importance import MOST, importances, is_logarithmic
from sweeptrail.training.sinks.console import summary

RUNS = 40


def tried(index: int, *, epochs: int = 9) -> RankedRun:
    """Return a run at a place of its own; one with fewer epochs than nine was stopped early."""
    lr, size = 10 ** -(1 + index % 7 / 2), 16 * (1 + index % 11)
    value = 0.9 - abs(math.log10(lr) + 2.5) / 10 - size / 100_000 - 0.1 / epochs
    each = tuple(
        Epoch(index, epoch, None, None, 1.0, 1.0 * epoch, {"validation_accuracy": value}, 100.0 * index + epoch)
        for epoch in range(1, epochs + 1)
    )
    params = {"lr": lr * (1 + index / 1000), "size": size, "kind": "ab"[index % 2]}
    stopped = "" if epochs == 9 else f"after {epochs} epochs, place 5 of 8"
    result = RunResult(index, f"{index}_run", params, "FINISHED", each, time=each[-1].time, stopped_early=stopped)
    return RankedRun("sweep", result)


def searched(*, stopping: bool = False) -> Leaderboard:
    counts = [9 if not stopping or index % 4 == 0 else 3 for index in range(1, RUNS + 1)]
    return make_leaderboard(tried(index, epochs=count) for index, count in enumerate(counts, start=1))


def test_the_report_of_a_search_has_best_so_far_importance_and_slices() -> None:
    page = report.page(searched(), title="Search")
    assert re.findall(r'<section id="(\w+)"', page)[-3:] == ["effects", "importance", "best"]
    assert "as Optuna computes it: fANOVA" in page
    assert set(facts.slices(searched())) == {"lr", "size"}
    assert facts.slices(searched())["lr"].is_log
    assert not facts.slices(searched())["size"].is_log
    assert set(facts.effects(searched())) == {"kind"}
    with plots.style():
        assert {"best_so_far", "importance", "effects"} <= set(plots.draw(searched(), facts.importance(searched())))


def test_a_grid_of_few_runs_has_neither() -> None:
    board = make_leaderboard(tried(index) for index in range(1, 9))
    with plots.style():
        assert not {"best_so_far", "importance"} & set(plots.draw(board, facts.importance(board)))
    assert 'id="best"' not in report.page(board, title="Grid")


def test_the_best_so_far_is_that_of_whole_runs() -> None:
    runs = facts.tried(searched(stopping=True))
    assert [run.number for run in runs] == list(range(1, RUNS + 1))
    assert [run.minutes for run in runs] == sorted(run.minutes for run in runs)
    assert runs[0].minutes == pytest.approx(3 / 60)
    best = running_best(Goal("validation_accuracy"), (run.value for run in runs if not run.is_stopped))
    assert len(best) == RUNS / 4
    assert best == sorted(best)
    assert best[-1] == max(run.value for run in runs if not run.is_stopped)


def test_what_was_stopped_early_is_counted_marked_and_in_no_colour() -> None:
    board = searched(stopping=True)
    assert saved(board) == "30 of 40 runs were stopped early: 180 of 360 epochs (50%)."
    assert all(not row.runs[0].result.stopped_early for row in facts.highlighted(board))
    page = report.page(board, title="Search")
    assert saved(board) in page
    assert ("epochs", "180 of 360") in zip(*[iter(re.findall(r"<d[td]>(.*?)</d[td]>", page))] * 2, strict=True)
    assert page.count("after 3 epochs, place 5 of 8") == 30
    assert table(board).count("after 3 epochs, place 5 of 8") == 30
    assert saved(board) in table(board)
    text = note(board, identity_of=lambda run: str(run.result.index))
    assert saved(board) in text
    assert "| stopped early |" in text
    assert "| after 3 epochs, place 5 of 8 |" in text
    screen = io.StringIO()
    Console(file=screen, width=80).print(summary(board))
    assert screen.getvalue().count("STOPPED") == 30
    assert saved(board) in screen.getvalue()
    assert max(map(len, screen.getvalue().splitlines())) <= 80


def test_a_run_that_was_stopped_early_is_no_rival_of_the_first() -> None:
    whole, stopped = tried(4), tried(5, epochs=3)
    assert verdict(make_leaderboard([whole, stopped])) == ""


def test_without_early_stopping_nothing_is_said_of_it() -> None:
    assert saved(searched()) == ""
    assert "stopped early" not in note(searched(), identity_of=lambda run: str(run.result.index))


def test_importance_names_what_matters_most_and_is_the_same_each_time() -> None:
    points = [{"x": index / 40, "y": index % 7 / 7, "z": 1} for index in range(40)]
    values = [point["x"] ** 2 + 0.01 * point["y"] for point in points]
    shares = importances(points, values)
    assert list(shares) == ["x", "y"]
    assert shares["x"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(points, values) == shares
    assert importances(points[:9], values[:9]) == {}
    assert importances([{"x": point["x"]} for point in points], values) == {}


def test_values_that_are_no_numbers_have_no_importance() -> None:
    points = [{"x": index, "y": -index} for index in range(12)]
    assert importances(points, [math.nan] * 12) == {}
    assert importances(points, [1.0] * 12) == {}


def test_what_has_paused_stands_below_while_the_search_goes_on() -> None:
    whole, stopped = tried(1), tried(2, epochs=3)
    other = replace(stopped, result=replace(stopped.result, stopped_early="so far, after 3 epochs"))
    board = make_leaderboard([other, whole])
    assert [row.runs[0].result.index for row in board.rows] == [1, 2]


@pytest.mark.slow
def test_importance_of_a_thousand_runs_takes_evenly_what_it_can_compute_in_seconds() -> None:
    points = [{"x": index / 1000, "y": index % 7 / 7} for index in range(1000)]
    values = [point["x"] ** 2 + 0.01 * point["y"] for point in points]
    few = [position * 1000 // MOST for position in range(MOST)]
    order = sorted(range(1000), key=values.__getitem__)
    taken = [order[position] for position in few]
    assert importances(points, values) == importances([points[i] for i in taken], [values[i] for i in taken])


def test_where_most_runs_have_come_to_nothing_the_best_is_in_every_plot() -> None:
    runs = [tried(index) for index in range(1, RUNS + 1)]
    lost = [replace(run, result=with_value(run.result, 0.1 + 0.0001 * run.result.index)) for run in runs[1:]]
    board = make_leaderboard([replace(runs[0], result=with_value(runs[0].result, 0.9)), *lost])
    assert facts.fences(row.mean for row in board.rows) == (board.rows[-1].mean, board.rows[1].mean)
    with plots.style():
        drawn = plots.draw(board, {})
    for name in ("learning_curves", "effects", "best_so_far"):
        low, high = drawn[name].axes[0].get_ylim()
        assert low < 0.1002 < 0.9 < high, name
    assert ">0.75<" in report.page(board, title="Search")  # on the axis of parallel coordinates


def with_value(result: RunResult, value: float) -> RunResult:
    epochs = tuple(replace(epoch, extra={"validation_accuracy": value}) for epoch in result.epochs)
    return replace(result, epochs=epochs)


def test_what_was_stopped_early_had_its_value_before_its_sweep_ended() -> None:
    board = searched(stopping=True)
    closed = (replace(run, result=replace(run.result, time=1e6)) for row in board.rows for run in row.runs)
    last = max(each.minutes for each in facts.tried(make_leaderboard(closed)) if each.is_stopped)
    assert last == pytest.approx((100 * 39 + 3 - 100) / 60)


def test_a_range_is_logarithmic_if_its_logarithms_are_spread_evenly() -> None:
    assert is_logarithmic([10 ** -(1 + 3 * index / 1000) for index in range(1000)])
    assert not is_logarithmic([(index + 1) / 2000 for index in range(1000)])
    assert not is_logarithmic([0.0, 0.001, 1.0])
    assert not is_logarithmic([1, 3, 9])


def test_a_search_without_optuna_says_what_shows_the_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "pip install 'sweeptrail[tpe]'"
    assert line not in report.page(searched(), title="Search")
    monkeypatch.setitem(sys.modules, "optuna", None)
    page = report.page(searched(), title="Search")
    assert line in page
    assert 'id="importance"' not in page
    assert line not in report.page(make_leaderboard(tried(index) for index in range(1, 9)), title="Grid")
