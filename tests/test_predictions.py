"""What a network answered to the test images, kept on disk."""

from pathlib import Path

import numpy as np
import pytest

from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.evaluation import predictions
from sweeptrail.fashion_mnist.evaluation.predictions import FILE_NAME, Predictions


def answers() -> Predictions:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 10, 10_000).astype(np.uint8)
    return Predictions(classes, generator.random(10_000).astype(np.float32))


def test_what_was_saved_is_loaded_as_it_was(tmp_path: Path) -> None:
    made = answers()
    made.save(tmp_path / FILE_NAME)
    read = predictions.load(tmp_path / FILE_NAME)
    np.testing.assert_array_equal(read.classes, made.classes)
    np.testing.assert_array_equal(read.confidences, made.confidences)
    assert (read.classes.dtype.name, read.confidences.dtype.name) == ("uint8", "float32")


def test_the_file_is_the_same_for_the_same_answers_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    for _ in range(2):
        answers().save(tmp_path / FILE_NAME)
    answers().save(tmp_path / "other.npz")
    assert (tmp_path / FILE_NAME).read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, "other.npz"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text("old")
    path.with_name(path.name + ".tmp").mkdir()
    with pytest.raises(SweeptrailError, match=r"test_predictions\.npz: cannot be written: Is a directory"):
        answers().save(path)
    assert path.read_text() == "old"


def test_an_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SweeptrailError, match=r"test_predictions\.npz: cannot be read: No such file"):
        predictions.load(tmp_path / FILE_NAME)


@pytest.mark.parametrize("cut", [0, 10, 30_000])
def test_a_torn_file_is_damaged(tmp_path: Path, cut: int) -> None:
    path = tmp_path / FILE_NAME
    answers().save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SweeptrailError, match="is damaged"):
        predictions.load(path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    answers().save(path)
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(SweeptrailError, match="is damaged"):
        predictions.load(path)


class Pickled:
    """Its pickle, when it is loaded, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    objects = np.full(10_000, Pickled(tmp_path / "made"), object)
    with (tmp_path / FILE_NAME).open("wb") as file:
        np.savez(file, classes=objects, confidences=objects)
    with pytest.raises(SweeptrailError, match="is damaged"):
        predictions.load(tmp_path / FILE_NAME)
    assert not (tmp_path / "made").exists()


GOOD = {"classes": np.zeros(10_000, np.uint8), "confidences": np.ones(10_000, np.float32)}


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"classes": GOOD["classes"]}, "confidences"),
        ({**GOOD, "classes": np.zeros(10, np.uint8)}, "expected 10000 classes as uint8"),
        ({**GOOD, "classes": np.zeros(10_000, np.int64)}, "expected 10000 classes as uint8"),
        ({**GOOD, "confidences": np.zeros((10_000, 2), np.float32)}, "expected 10000 confidences as float32"),
        ({**GOOD, "classes": np.full(10_000, 10, np.uint8)}, "expected classes from 0 to 9"),
        ({**GOOD, "confidences": np.full(10_000, np.nan, np.float32)}, "confidences from 0 to 1"),
        ({**GOOD, "confidences": np.full(10_000, 1.5, np.float32)}, "confidences from 0 to 1"),
    ],
)
def test_something_else_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    with (tmp_path / FILE_NAME).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    with pytest.raises(SweeptrailError, match=f"is damaged: .*{expected}"):
        predictions.load(tmp_path / FILE_NAME)


def test_an_array_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    with (tmp_path / FILE_NAME).open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SweeptrailError, match="is damaged"):
        predictions.load(tmp_path / FILE_NAME)
