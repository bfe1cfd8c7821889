"""A sweep that version 0.1 began, and that was killed in the middle, goes on with this one."""

import shutil
from pathlib import Path

import pandas
import pytest

from tests.commands import client, family, program
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"
PATIENTLY = ["--delivery-timeout", f"{PATIENCE:.0f}"]
DURATIONS = ["epoch duration", "run duration"]


def table(path: Path) -> pandas.DataFrame:
    return pandas.read_csv(path, index_col=0).drop(columns=DURATIONS)


def test_a_sweep_of_version_0_1_goes_on_and_ends_with_the_numbers_of_an_undisturbed_one(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "begun"
    shutil.copytree(DATA / "version_0_1", folder)
    resumed = program("resume", *PATIENTLY, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    undisturbed, found = table(DATA / "version_0_1_results.csv"), table(folder / "results.csv")
    finished_before = found["run"] == 1
    pandas.testing.assert_frame_equal(found[finished_before], undisturbed[finished_before], check_exact=True)
    # Not exactly: another processor rounds in another way.
    pandas.testing.assert_frame_equal(found, undisturbed, rtol=0.02)
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    for child in children:
        steps = [metric.step for metric in client(tmp_path).get_metric_history(child.info.run_id, "loss")]
        assert steps == [1, 2, 3, 4]
        assert len(client(tmp_path).get_metric_history(child.info.run_id, "test_accuracy")) == 1
    assert "run 1/2" not in resumed.stdout  # it was finished, and is not carried out again


def test_a_sweep_of_version_0_1_is_compared_as_before(tmp_path: Path) -> None:
    shutil.copytree(DATA / "version_0_1", tmp_path / "runs" / "begun")
    compared = program("compare", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    heads, first, *_ = compared.stdout.splitlines()
    assert heads.split() == ["rank", "lr", "batch_size", "shuffle", "validation", "accuracy", "test", "accuracy", "run"]
    assert first.split() == ["1", "0.01", "50", "True", "0.6250", "0.6267", "1"]
