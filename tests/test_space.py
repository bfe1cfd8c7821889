"""Which runs a sweep consists of."""

import pickle
from collections import OrderedDict

import pytest

from sweeptrail.errors import SpaceError
from sweeptrail.search.space import RunBuilder, run_name

ARTICLE: OrderedDict[str, list[object]] = OrderedDict(lr=[0.01, 0.001], batch_size=[100, 1000], shuffle=[True, False])


def test_the_last_name_varies_fastest() -> None:
    runs = RunBuilder.get_runs(ARTICLE)
    assert len(runs) == 8
    assert [tuple(run) for run in runs[:3]] == [(0.01, 100, True), (0.01, 100, False), (0.01, 1000, True)]


def test_a_run_prints_and_reads_as_in_the_article() -> None:
    run = RunBuilder.get_runs(ARTICLE)[0]
    assert repr(run) == "Run(lr=0.01, batch_size=100, shuffle=True)"
    assert run._fields == ("lr", "batch_size", "shuffle")
    assert run._asdict() == {"lr": 0.01, "batch_size": 100, "shuffle": True}
    lr, batch_size, shuffle = run
    assert (lr, batch_size, shuffle) == (run.lr, run.batch_size, run.shuffle)


def test_a_run_survives_pickling_with_its_class() -> None:
    run = RunBuilder.get_runs(ARTICLE)[3]
    copy = pickle.loads(pickle.dumps(run))
    assert copy == run
    assert type(copy) is type(run)


def test_a_list_of_mappings_is_a_run_each() -> None:
    runs = RunBuilder.get_runs([{"lr": 0.1, "layers": [1]}, {"layers": [2], "lr": 0.2}])
    assert [repr(run) for run in runs] == ["Run(lr=0.1, layers=[1])", "Run(lr=0.2, layers=[2])"]
    assert runs[0] == RunBuilder.get_runs({"lr": [0.1], "layers": [[1]]})[0]


def test_values_of_any_kind_are_allowed_in_a_grid_of_ones_own() -> None:
    runs = RunBuilder.get_runs({"layers": [[1, 2], [3]], "name": ("a", "b")})
    assert [run.layers for run in runs] == [[1, 2], [1, 2], [3], [3]]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optim": "adam"}, "optim: expected a list of values, got 'adam'; write ['adam'] for a single value"),
        ({"lr": 0.1}, "lr: expected a list of values, got 0.1; write [0.1] for a single value"),
        ({"lr": []}, "lr: expected at least one value, got an empty list"),
        ({"lr": [0.1, 0.1]}, "lr: 0.1 is given twice; write each value once"),
        ({"learning rate": [0.1]}, "'learning rate': expected a name that can be an attribute"),
        ({"class": [1]}, "'class': expected a name that can be an attribute"),
        ({"_lr": [1]}, "'_lr': expected a name that can be an attribute"),
        ({3: [1]}, "3: expected a name that can be an attribute"),
        ({"epoch": [1]}, "epoch: the results table has a column of that name already; write epoch_value, say"),
        ({}, "no hyperparameters were given"),
        ([("lr", [1])], "expected a mapping from names to lists of values"),
        ([], "expected a mapping from names to lists of values"),
        ([{"lr": 0.1}, {"rl": 0.1}], "combination 2: expected the names lr, got rl; write the same in each"),
        ([{"lr": 0.1}, {"lr": 0.1, "n": 1}], "combination 2: expected the names lr, got lr, n; write the same in each"),
        ([{"a b": 1}], "'a b': expected a name that can be an attribute"),
        ([{}], "no hyperparameters were given"),
    ],
)
def test_a_malformed_grid_is_an_error_that_says_what_to_write(params: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        RunBuilder.get_runs(params)  # type: ignore[arg-type]  # wrong on purpose
    assert message in str(caught.value)


def test_all_mistakes_of_a_grid_are_named_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        RunBuilder.get_runs({"optim": "adam", "lr": [], "a b": [1]})
    assert len(caught.value.problems) == 3


def test_the_name_of_a_run_is_fit_to_be_a_folder() -> None:
    assert run_name(3, {"lr": 0.01, "shuffle": True}) == "3_lr=0.01,shuffle=True"
    hostile = run_name(1, {"network": "../my net:Class\n", "long": "x" * 500})
    assert "/" not in hostile
    assert "\n" not in hostile
    assert len(hostile) < 200
