"""One sweep's choices."""

import pytest

from sweeptrail.errors import SettingsError
from sweeptrail.sweeps.settings import Settings, parameters_of
from sweeptrail.sweeps.settings import parse as parse_for
from sweeptrail.tasks.task import DEFAULT_TASK, find_task

TASK = find_task(DEFAULT_TASK)

OLD_KEY = "ae87acac2b076b90"
"""Of the first run of the default sweep."""


def parse(texts: dict[str, str]) -> Settings:
    return parse_for(texts, TASK)


def test_the_defaults_are_the_article_s_grid() -> None:
    grid = list(parse({}).grid())
    assert len(grid) == 8
    params, settings = grid[0]
    assert params == {"lr": 0.01, "batch_size": 100, "shuffle": True}
    assert (settings["optimizer"], settings["epochs"]) == ("adam", 3)
    assert not params.keys() & settings.keys()


def test_an_axis_with_several_values_becomes_a_column_and_one_with_a_single_value_does_not() -> None:
    settings = parse({"lr": "0.1", "batch_size": "10", "shuffle": "true", "seed": "0,1", "optimizer": "sgd"})
    assert settings.columns == ("lr", "batch_size", "shuffle", "seed")
    assert [params for params, _ in settings.grid()] == [
        {"lr": 0.1, "batch_size": 10, "shuffle": True, "seed": seed} for seed in (0, 1)
    ]
    assert {fixed["optimizer"] for _, fixed in settings.grid()} == {"sgd"}


def test_settings_written_as_text_are_read_back_the_same() -> None:
    settings = parse({"lr": "1e-4,0.5", "shuffle": "False", "train_samples": "100", "batch_size": "7", "workers": "3"})
    assert parse(settings.texts) == settings
    assert parse(parse({}).texts) == parse({})


def test_every_setting_accepts_its_example_and_its_default_and_says_what_it_means() -> None:
    for each in parameters_of(TASK):
        assert each.meaning
        each.values(each.example or each.default)
        assert each.text(each.values(each.default)) == each.default


def test_a_run_is_recognised_as_version_0_1_did_it() -> None:
    settings = parse({})
    params, fixed = settings.grid()[0]
    assert settings.run_key({**fixed, **params}, "d1fd84a877f3b78f") == OLD_KEY


def test_the_goal_is_the_validation_accuracy_where_images_are_held_out() -> None:
    assert str(parse({}).goal) == "max:validation_accuracy"
    assert str(parse({"validation_samples": "0"}).goal) == "max:accuracy"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lr", "abc", "lr: expected positive numbers, got 'abc'; write lr=0.01,0.001"),
        ("lr", "0", "lr: expected positive numbers, got '0'"),
        ("lr", "-0.1", "lr: expected positive numbers, got '-0.1'"),
        ("lr", "nan", "lr: expected positive numbers, got 'nan'"),
        ("lr", "inf", "lr: expected positive numbers, got 'inf'"),
        ("lr", "", "lr: expected positive numbers, got an empty value in ''"),
        ("lr", "0.1,,0.2", "lr: expected positive numbers, got an empty value in '0.1,,0.2'"),
        ("lr", "0.1,0.10", "lr: 0.1 is given twice in '0.1,0.10'; write each value once"),
        ("lr", "1_0", "lr: expected positive numbers, got '1_0'"),
        ("batch_size", "0", "batch_size: expected whole numbers from 1, got '0'"),
        ("batch_size", "1.5", "batch_size: expected whole numbers from 1, got '1.5'"),
        ("batch_size", "-3", "batch_size: expected whole numbers from 1, got '-3'"),
        ("batch_size", "9" * 400, "batch_size: expected whole numbers from 1, got"),
        ("batch_size", "100000", "batch_size: expected at most the 55000 training samples, got 100000"),
        ("shuffle", "maybe", "shuffle: expected true or false, got 'maybe'; write shuffle=true,false"),
        ("shuffle", "true,TRUE", "shuffle: True is given twice"),
        ("epochs", "0", "epochs: expected a whole number from 1, got '0'"),
        ("epochs", "1,2", "epochs: expected a whole number from 1, got '1,2'"),
        ("epochs", "three", "epochs: expected a whole number from 1, got 'three'"),
        ("optimizer", "adan", "optimizer: expected any of adam, adamw, sgd, got 'adan'"),
        ("weight_decay", "-1", "weight_decay: expected numbers from 0, got '-1'"),
        ("seed", "-1", "seed: expected whole numbers from 0, got '-1'"),
        ("network", "Netwrk", "network: expected Network, or module:Class of your own, got 'Netwrk'"),
        ("network", "a b:C", "network: expected Network, or module:Class of your own, got 'a b:C'"),
        ("device", "tpu", "device: expected auto, cpu, cuda, cuda:0 or mps, got 'tpu'"),
        ("device", "cpu:1", "device: expected auto, cpu, cuda, cuda:0 or mps, got 'cpu:1'"),
        ("engine", "slurm", "engine: expected any of"),
        ("workers", "0", "workers: expected a whole number from 1, or auto, got '0'"),
        ("threads", "none", "threads: expected a whole number from 1, got 'none'"),
        (
            "run_timeout",
            "0",
            "run_timeout: expected a time such as 90s, 30m or 2h, or none, got '0'; write run_timeout=30m",
        ),
        ("run_timeout", "m", "run_timeout: expected a time such as 90s, 30m or 2h, or none, got 'm'"),
        ("run_timeout", "3d", "run_timeout: expected a time such as 90s, 30m or 2h, or none, got '3d'"),
        ("run_timeout", "-1h", "run_timeout: expected a time such as 90s, 30m or 2h, or none, got '-1h'"),
        ("train_samples", "0", "train_samples: expected a whole number from 1, or all, got '0'"),
        ("train_samples", "60000", "train_samples: expected at most 55000, which is 60000 less validation_samples"),
        ("validation_samples", "60000", "validation_samples: expected less than the 60000 training images, got 60000"),
        ("validation_samples", "-1", "validation_samples: expected a whole number from 0, got '-1'"),
        ("epoch", "3", "epoch: there is no such setting; did you mean epochs?"),
        ("max_runs", "0", "max_runs: expected a whole number from 1, got '0'"),
        ("max_runs", "7", "max_runs: expected at most 7 runs, got 8 (lr 2 x batch_size 2 x shuffle 2); write fewer"),
        ("note", "x" * 1001, "note: expected Markdown, 1000 characters at most, or none, got 'xxx"),
        ("runs", "lr", "runs: combination 1: expected NAME=VALUE, got 'lr'; write lr=0.1 hidden=64, or a file"),
        ("runs", "lr='0.1", 'runs: combination 1: No closing quotation in "lr=\'0.1"'),
        ("runs", "epochs=1", "runs: epochs: there is no such hyperparameter; the hyperparameters are lr, batch_size"),
        ("colour", "red", "colour: there is no such setting; the settings are lr, batch_size,"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({name: text})
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("none", None), ("90", 90), ("90s", 90), ("0.5m", 30), ("30m", 1800), ("2h", 7200)]
)
def test_a_timeout_is_a_number_with_a_unit(text: str, seconds: float | None) -> None:
    settings = parse({"run_timeout": text})
    assert settings["run_timeout"] == seconds
    assert parse(settings.texts) == settings


def test_a_run_in_this_process_has_no_timeout() -> None:
    with pytest.raises(
        SettingsError, match=r"run_timeout: a run in this process .* write engine=processes or"
    ) as caught:
        parse({"run_timeout": "30m", "engine": "serial"})
    assert len(caught.value.problems) == 1


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"lr": "x", "batch_size": "y", "epochs": "z", "colour": "red"})
    assert len(caught.value.problems) == 4


def test_a_list_of_runs_is_recorded_and_read_back_the_same() -> None:
    settings = parse({"runs": "lr=0.1 network=Network,lr=0.2 network=my:Net", "batch_size": "10"})
    assert settings.columns == ("lr", "batch_size", "shuffle", "network")
    assert "lr" not in settings.texts
    assert parse(settings.texts) == settings


def test_a_list_of_runs_is_checked_like_a_grid() -> None:
    with pytest.raises(SettingsError, match="batch_size: expected at most the 55000 training samples, got 60000"):
        parse({"runs": "batch_size=100,batch_size=60000"})


def test_a_batch_is_compared_with_the_samples_that_are_really_trained_on() -> None:
    assert parse({"train_samples": "1000"})["batch_size"] == (100, 1000)
    with pytest.raises(SettingsError, match="at most the 999 training samples, got 1000"):
        parse({"train_samples": "999"})


def test_a_name_that_ends_like_a_whole_number_is_recorded_as_it_is() -> None:
    texts = {"register": "cnn-2.0", "data_dir": "/data/v1.0", "lr": "1"}
    recorded = parse(texts).texts
    assert {name: recorded[name] for name in texts} == texts
