"""Ranges, what is chosen from them, and which runs are worth more epochs."""

import math
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

import pytest

from sweeptrail.search.at_random import AtRandom
from sweeptrail.search.ranges import Range
from sweeptrail.search.rungs import Ladder, Rungs
from sweeptrail.search.strategy import Point, Space, Strategy, Trial
from sweeptrail.search.text import Parameter, number, one_of, real
from sweeptrail.search.tpe import Tpe

LR = Parameter("lr", "0.1", real, "numbers", "", is_axis=True)
SIZE = Parameter("size", "1", number(int, 1), "whole numbers from 1", "", is_axis=True)
WORD = Parameter("word", "a", str, "text", "", is_axis=True)


def everything(points: Sequence[Point]) -> list[bool]:
    return [True] * len(points)


def space(are_valid: object = everything, **choices: object) -> Space:
    return Space(choices, are_valid)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0..0.5", Range(0.0, 0.5)),
        ("log:1e-4..1e-1", Range(0.0001, 0.1, is_log=True)),
        (" -1 .. 1 ", Range(-1.0, 1.0)),
        ("0.1..0.5:0.1", Range(0.1, 0.5, 0.1)),
    ],
)
def test_a_range_is_read_and_written_as_a_person_would(text: str, expected: Range) -> None:
    assert LR.values(text) == expected
    assert LR.values(LR.text(expected)) == expected


def test_a_range_of_whole_numbers_and_one_with_steps_can_be_listed() -> None:
    assert list(SIZE.values("16..64:16")) == [16, 32, 48, 64]
    assert list(SIZE.values("2..4")) == [2, 3, 4]
    assert list(LR.values("0.1..0.5:0.1")) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert not LR.values("0..1").is_finite


def test_a_text_that_looks_like_a_range_stays_one_where_text_is_expected() -> None:
    assert WORD.values("1..2") == ("1..2",)


@pytest.mark.parametrize(
    ("parameter", "text", "message"),
    [
        (LR, "5..1", "expected a range from a number to a greater one, got '5..1'; write 1..5"),
        (LR, "1..1", "got '1..1'; write 1 alone"),
        (LR, "0..inf", "got '0..inf'; write 0..1"),
        (LR, "log:0..1", "expected a range above 0 behind log:, got 'log:0..1'; write log:0.0001..1"),
        (LR, "log:1..10:2", "expected no step behind log:, got 'log:1..10:2'; write log:1..10"),
        (LR, "0.1..0.55:0.1", "expected steps that end at 0.55, got '0.1..0.55:0.1'; write 0.1..0.5:0.1"),
        (LR, "0..1:-0.1", "expected a number above 0 as the step"),
        (SIZE, "16..250:16", "expected steps that end at 250, got '16..250:16'; write 16..240:16"),
        (SIZE, "1..5:0.5", "expected a whole number above 0 as the step"),
        (SIZE, "1..2.5", "size: expected whole numbers from 1, got '2.5'"),
        (SIZE, "0..5", "size: expected whole numbers from 1, got '0'"),
        (SIZE, "1,2..5", "size: expected whole numbers from 1, got '2..5'"),
        (Parameter("kind", "a", one_of(("a",)), "a", "", is_axis=True), "1..2", "kind: expected a, got '1'"),
    ],
)
def test_a_wrong_range_is_named_with_what_to_write(parameter: Parameter, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=parameter.name) as caught:
        parameter.values(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{parameter.name}: ")


def test_what_is_drawn_lies_in_the_range_and_is_spread_over_it() -> None:
    shares = [position / 1000 for position in range(1000)]
    for each in (Range(0.0, 1.0), Range(1e-4, 0.1, is_log=True), Range(1, 256), Range(1, 1000, is_log=True)):
        drawn = [each.draw(share) for share in shares]
        assert all(value in each for value in drawn)
        assert drawn == sorted(drawn)
    assert median(Range(1e-4, 0.1, is_log=True).draw(share) for share in shares) == pytest.approx(10**-2.5, rel=0.02)
    assert median(Range(0.0, 1.0).draw(share) for share in shares) == pytest.approx(0.5, rel=0.02)
    assert {Range(1, 4).draw(share) for share in shares} == {1, 2, 3, 4}


def choose(strategy: Strategy, count: int, known: Sequence[Trial] = ()) -> list[Trial]:
    """Return so many trials, each of which has reached (x - 0.3)²."""
    trials = list(known)
    while len(trials) < count:
        point = strategy.suggest(len(trials) + 1, trials)
        if point is None:
            break
        trials.append(Trial(len(trials) + 1, point, (float(point["x"]) - 0.3) ** 2))
    return trials


STRATEGIES = [AtRandom, Tpe]
MIXED = {"x": Range(0.0, 1.0), "size": Range(16, 256, 16), "word": ("a", "b", None)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_suggestion_is_a_function_of_seed_number_and_what_is_known(strategy: type) -> None:
    undisturbed = choose(strategy(space(**MIXED), 7), 15)
    assert choose(strategy(space(**MIXED), 7), 15, undisturbed[:9]) == undisturbed
    assert choose(strategy(space(**MIXED), 8), 15) != undisturbed


def test_another_process_gets_the_same_suggestions() -> None:
    script = (
        "from tests.test_search import *; from sweeptrail.search.tpe import Tpe;"
        "print([trial.params for trial in choose(Tpe(space(**MIXED), 7), 13)])"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str([trial.params for trial in choose(Tpe(space(**MIXED), 7), 13)])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_tried_twice_and_a_space_has_an_end(strategy: type) -> None:
    trials = choose(strategy(space(x=Range(0.0, 1.0, 0.25), word=("a", "b")), 0), 100)
    assert len({(trial.params["x"], trial.params["word"]) for trial in trials}) == len(trials) == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_what_is_valid_is_chosen(strategy: type) -> None:
    def below_a_half(points: Sequence[Point]) -> list[bool]:
        return [point["x"] < 0.5 for point in points]

    assert all(trial.params["x"] < 0.5 for trial in choose(strategy(space(below_a_half, **MIXED), 0), 15))
    assert strategy(space(lambda points: [False] * len(points), x=(1, 2)), 0).suggest(1, []) is None


def test_tpe_chooses_near_what_was_good_and_knows_what_is_open() -> None:
    trials = choose(Tpe(space(x=Range(0.0, 1.0), y=Range(0.0, 1.0)), 0), 40)
    assert median(abs(trial.params["x"] - 0.3) for trial in trials[30:]) < 0.1
    strategy = Tpe(space(x=Range(0.0, 1.0), y=Range(0.0, 1.0)), 0)
    point = strategy.suggest(49, trials)
    assert point
    near = [{name: value + each / 10_000 for name, value in point.items()} for each in range(1, 9)]
    open_ones = [Trial(41 + each, params) for each, params in enumerate(near)]
    assert strategy.suggest(49, [*trials, *open_ones]) != point


def test_tpe_takes_failed_stopped_and_nan_runs() -> None:
    known = [
        Trial(1, {"x": 0.1}, 0.5),
        Trial(2, {"x": 0.2}, None, has_failed=True),
        Trial(3, {"x": 0.3}, math.nan),
        Trial(4, {"x": 0.4}, None, reached={1: 0.7, 3: 0.6}),
        Trial(5, {"x": 0.5}, None, reached={1: math.nan}),
        Trial(6, {"x": 0.6}),
        Trial(7, {"x": 0.7}, math.inf),
        *(Trial(number, {"x": number / 100}, number / 100) for number in range(8, 20)),
    ]
    point = Tpe(space(x=Range(0.0, 1.0)), 0).suggest(20, known)
    assert point
    assert point["x"] in Range(0.0, 1.0)


def test_levels_grow_by_eta_up_to_a_whole_run() -> None:
    assert Rungs(1, 9, 3).levels == [1, 3, 9]
    assert Rungs(1, 10, 3).levels == [1, 3, 9, 10]
    assert Rungs(2, 20, 4).levels == [2, 8, 20]
    assert Rungs(1, 2, 3).levels == [1, 2]


def ladder_with(values: Sequence[float]) -> Ladder:
    """Return a ladder on whose first level the trials 1, 2, … have these values."""
    ladder = Ladder(Rungs(1, 9, 3))
    for trial, value in enumerate(values, start=1):
        ladder.send(trial)
        ladder.reach(trial, 1, (math.isnan(value), 0.0 if math.isnan(value) else value))
    return ladder


def test_one_of_eta_goes_on_the_best_first_each_once() -> None:
    ladder = ladder_with([0.5, 0.2, 0.9, 0.1, 0.8, 0.7])
    assert ladder.next() == 4
    assert ladder.send(4) == 3
    assert ladder.next() == 2
    ladder.send(2)
    assert ladder.next() is None


def test_a_run_that_is_nearer_to_the_end_goes_on_first() -> None:
    ladder = ladder_with([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2])
    for trial in (1, 2, 3):
        ladder.send(trial)
        ladder.reach(trial, 3, (False, float(trial)))
    assert ladder.next() == 1
    assert ladder.send(1) == 9
    assert ladder.next() == 4


def test_nan_never_goes_on() -> None:
    ladder = ladder_with([math.nan] * 6)
    assert ladder.next() is None
    assert ladder.last() is None


def test_of_too_few_the_best_goes_on_when_nothing_else_is_to_be_done() -> None:
    ladder = ladder_with([0.5, 0.2])
    assert ladder.next() is None
    assert ladder.last() == 2
    ladder.send(2)
    ladder.reach(2, 3, (False, 0.1))
    assert ladder.last() == 2
    ladder.send(2)
    assert ladder.last() == 1, "the other one has failed on its way"
    ladder.reach(2, 9, (False, 0.1))
    assert ladder.last() is None
