"""The table of results."""

import json
from pathlib import Path

import pandas
import pytest

from sweeptrail.errors import SweeptrailError
from sweeptrail.records import Epoch, RunResult
from sweeptrail.results.columns import columns_of, metrics_of
from sweeptrail.results.table import rows, save
from sweeptrail.system.files import write_whole


def result(index: int, epochs: int = 2) -> RunResult:
    made = tuple(
        Epoch(index, epoch, 0.1 + 0.2, 1 / 3, 1.5, 1.5 * epoch, {"validation_accuracy": 0.9})
        for epoch in range(1, epochs + 1)
    )
    return RunResult(index, f"run {index}", {"lr": 0.1 * index, "shuffle": True}, "FINISHED", made)


def test_the_table_is_ordered_by_run_then_epoch_with_the_article_s_columns_first(tmp_path: Path) -> None:
    table = rows([result(2), result(1)])
    assert [(row["run"], row["epoch"]) for row in table] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert list(table[0]) == [
        *("run", "epoch", "loss", "accuracy", "epoch duration", "run duration"),
        *("lr", "shuffle", "validation_accuracy"),
    ]


def test_csv_is_what_pandas_writes_and_json_a_list_of_records(tmp_path: Path) -> None:
    table = rows([result(1), result(2)])
    csv, json_file = save(table, tmp_path / "results")
    assert csv.read_text() == pandas.DataFrame(table).to_csv()
    pandas.testing.assert_frame_equal(pandas.read_csv(csv, index_col=0), pandas.DataFrame(table))
    assert json.loads(json_file.read_text()) == table
    assert json_file.read_text().startswith("[\n    {")


def test_a_loss_that_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    _, json_file = save([{"run": 1, "loss": float("nan")}, {"run": 2, "loss": float("inf")}], tmp_path / "results")
    assert json.loads(json_file.read_text()) == [{"run": 1, "loss": None}, {"run": 2, "loss": None}]
    assert "Infinity" not in json_file.read_text()


def test_a_table_without_rows_is_written_too(tmp_path: Path) -> None:
    _, json_file = save([], tmp_path / "results")
    assert json.loads(json_file.read_text()) == []


def test_a_run_that_failed_early_leaves_the_rows_it_has(tmp_path: Path) -> None:
    assert len(rows([result(1, epochs=0), result(2, epochs=1)])) == 1


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "old.tmp").mkdir()
    with pytest.raises(SweeptrailError, match="old: cannot be written: Is a directory"):
        write_whole(tmp_path / "old", "new")
    assert (tmp_path / "old").read_text() == "old"


def test_a_run_without_epochs_has_a_row_with_its_values_and_no_empty_columns() -> None:
    run = RunResult(1, "1", {"C": 0.5}, "FINISHED", metrics={"validation_accuracy": 0.9}, duration=2.5)
    assert rows([run]) == [{"run": 1, "run duration": 2.5, "C": 0.5, "validation_accuracy": 0.9}]


def test_an_epoch_without_loss_and_accuracy_has_no_columns_for_them() -> None:
    run = RunResult(1, "1", {}, "FINISHED", (Epoch(1, 1, None, None, 1.5, 1.5, {"rmse": 0.3}),))
    assert rows([run]) == [{"run": 1, "epoch": 1, "epoch duration": 1.5, "run duration": 1.5, "rmse": 0.3}]


def test_hyperparameters_and_metrics_of_the_same_name_have_columns_of_their_own_and_are_told_apart_again() -> None:
    params = {"loss": "hinge", "epoch": 5, "C": 0.5}
    metrics = {"loss": 0.75, "C": 2.0, "epoch": 9.0, "rmse": 0.25}
    columns = columns_of(params, metrics)
    assert columns == {
        "param_loss": "hinge", "param_epoch": 5, "C": 0.5,
        "loss": 0.75, "C_metric": 2.0, "epoch_metric": 9.0, "rmse": 0.25,
    }  # fmt: skip
    assert metrics_of(columns, params) == metrics
