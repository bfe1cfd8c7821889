"""What the network says of pictures, and what is no model."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from sweeptrail.errors import UsageError
from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.fashion_mnist.evaluation.predict import BATCH, load, predict
from sweeptrail.records import Job
from tests.commands import program
from tests.exported import export, images, job, probabilities
from tests.test_images import idx


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job whose network is exported in its folder: importing what exports takes seconds."""
    made = job(tmp_path_factory.mktemp("exported"))
    export(made)
    return made


def model_of(given: Job) -> str:
    return f"{given.folder}/model"


def sweeptrail(*arguments: str, cwd: Path) -> tuple[int, str, list[str]]:
    """Return the exit code, the output, and the lines on standard error."""
    done = program(*arguments, cwd=cwd)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_every_image_of_every_file_gets_its_class_and_its_runner_up(exported: Job, tmp_path: Path) -> None:
    pictures = images(BATCH + 3)
    (tmp_path / "many.gz").write_bytes(gzip.compress(idx(pictures)))
    pictures[0, :, 0] = pictures[0, :, -1] = pictures[0, 0] = pictures[0, -1] = 0  # else it would be inverted
    Image.fromarray(pictures[0]).save(tmp_path / "one.png")
    found = list(predict(load(model_of(exported)), [tmp_path / "one.png", tmp_path / "many.gz"]))
    assert [seen.image for seen in found[:2]] == [str(tmp_path / "one.png"), f"{tmp_path / 'many.gz'}[0]"]
    assert found[-1].image == f"{tmp_path / 'many.gz'}[{BATCH + 2}]"
    expected = probabilities(exported, pictures)
    for seen, row in zip([found[0], *found[2:]], expected, strict=True):
        best, second = row.topk(2).indices.tolist()
        assert (seen.class_name, seen.runner_up) == (CLASS_NAMES[best], CLASS_NAMES[second])
        assert seen.probability == pytest.approx(row[best].item(), abs=1e-6)
        assert seen.runner_up_probability == pytest.approx(row[second].item(), abs=1e-6)


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(exported: Job, tmp_path: Path) -> None:
    Image.fromarray(images(1)[0]).save(tmp_path / "one.png")
    status, table, errors = sweeptrail("predict", model_of(exported), "one.png", cwd=tmp_path)
    assert (status, errors) == (0, [])
    [head, line] = table.splitlines()
    assert head.split() == ["image", "class", "probability", "runner-up"]
    status, text, _ = sweeptrail("predict", model_of(exported), "one.png", "--format", "json", cwd=tmp_path)
    [seen] = json.loads(text)
    assert line.split()[0] == seen["image"] == "one.png"
    assert seen["class_name"] in CLASS_NAMES
    assert f"{seen['probability']:.4f}" in line


def as_pickle(folder: Path) -> None:
    (folder / "data" / "model.pt2").unlink()
    torch.save(torch.nn.Linear(1, 1), folder / "data" / "model.pth")


def as_data_elsewhere(folder: Path) -> None:
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("model_data: data", "model_data: ../elsewhere"))


def as_foreign(folder: Path) -> None:
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("classes:", "labels:"))


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (as_pickle, "a pickle may run any code and is never loaded"),
    "data elsewhere": (as_data_elsewhere, "a pickle may run any code and is never loaded"),
    "a model of others": (as_foreign, "expected a model that sweeptrail has exported, got none"),
    "no description": (lambda folder: (folder / "MLmodel").unlink(), "expected a model that sweeptrail has exported"),
    "text": (lambda folder: (folder / "MLmodel").write_text("{"), "expected a model that sweeptrail has exported"),
    "a torn network": (lambda folder: (folder / "data" / "model.pt2").write_bytes(b"PK"), "got a damaged one"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_model_of_ours_is_refused_in_one_line(exported: Job, tmp_path: Path, what: str) -> None:
    make, expected = WRONG[what]
    shutil.copytree(model_of(exported), tmp_path / "model")
    make(tmp_path / "model")
    with pytest.raises(UsageError) as caught:
        load(str(tmp_path / "model"))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("models:/fashion-mnist", "expected models:/NAME@ALIAS"),
        ("models:/fashion-mnist/newest", "expected models:/NAME@ALIAS"),
        ("runs:/0123", "expected models:/NAME@ALIAS"),
        ("fashion-mnist", "there is no folder 'fashion-mnist'; write models:/NAME@ALIAS"),
        ("models:/fashion-mnist@champion", "there is no "),
    ],
)
def test_a_model_that_is_nowhere_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, model: str, expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(model, f"sqlite:///{tmp_path}/mlflow.db")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_bad_image_is_a_line_and_the_exit_code_is_2(exported: Job, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(images(1)[0]).save(tmp_path / "good.png")
    pictures = ["good.png", "text.png", "missing.png"]
    status, output, errors = sweeptrail("predict", model_of(exported), *pictures, cwd=tmp_path)
    assert (status, output) == (2, "")
    assert errors == [
        "error: text.png: expected a PNG, JPEG or IDX file, got something else",
        "error: missing.png: cannot be read: No such file or directory",
    ]
