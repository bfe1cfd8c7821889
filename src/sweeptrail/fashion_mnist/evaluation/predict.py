"""What a trained network sees in pictures."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from sweeptrail.errors import RefusedError, UsageError
from sweeptrail.fashion_mnist.evaluation.pictures import Bytes, read_images
from sweeptrail.tracking.uri import Tracking, without_credentials
from sweeptrail.training import pt2
from sweeptrail.training.export import DATA

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model or a folder"
REGISTERED = re.compile(r"models:/[^/@]+(@[^/@]+|/\d+)|runs:/[^/]+/.+")

BATCH = 1000
"""Images computed at a time."""


@dataclass(frozen=True)
class Classifier:
    """A network with the names of its classes."""

    network: pt2.Program
    classes: Sequence[str]


@dataclass(frozen=True)
class Prediction:
    """What is seen in one image."""

    image: str
    """Its file; in a file with several, with its number from 0: `t10k-images.gz[7]`."""
    class_name: str
    probability: float
    runner_up: str
    runner_up_probability: float


def load(model: str, tracking_uri: str = "") -> Classifier:
    """Return the network of a registered model, of a run, or in a folder.

    Nothing in it is executed: a pickle is refused, and so is any operation that is none of aten.
    Raises UsageError for a model that is not there or is none of ours, and DeliveryError when the
    server does not answer.
    """
    if not model.startswith(("models:", "runs:")):
        return _open(Path(model))
    if not REGISTERED.fullmatch(model):
        raise UsageError(f"model: expected {FORMS}, got {model!r}")
    with tempfile.TemporaryDirectory() as folder:
        fetched = _fetch(model, tracking_uri, Path(folder))
        try:
            return _open(fetched)
        except UsageError as error:
            raise UsageError(str(error).replace(str(fetched), model)) from error


def _fetch(model: str, tracking_uri: str, folder: Path) -> Path:
    tracking = Tracking.from_environment(uri=tracking_uri)
    if tracking.database and not tracking.database.exists():
        raise UsageError(f"model: there is no {tracking.database}, where {model} is looked for; write --tracking-uri")
    from sweeptrail.tracking.client import TrackingServer

    try:
        return TrackingServer(tracking.uri).fetch_model(model, folder)
    except RefusedError as error:
        server = without_credentials(tracking.uri)
        raise UsageError(f"model: {server} has no {model} ({error.__cause__ or error})".partition("\n")[0]) from error


def _open(folder: Path) -> Classifier:
    """Return what is in the folder of a model, after a look at what that claims to be."""
    if not folder.is_dir():
        raise UsageError(f"model: there is no folder {str(folder)!r}; write {FORMS}")
    try:
        described = yaml.safe_load((folder / "MLmodel").read_bytes())
        classes = described["metadata"]["classes"]
        data = described["flavors"]["pytorch"]["model_data"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"model: {folder}: expected a model that sweeptrail has exported, got none") from error
    if data != DATA.parent.name or not (folder / DATA).is_file():
        raise UsageError(f"model: {folder}: expected {DATA}, got none; a pickle may run any code and is never loaded")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UsageError(f"model: {folder}: expected the names of its classes in MLmodel, got {str(classes)[:100]}")
    return Classifier(pt2.read(folder / DATA), classes)


def predict(classifier: Classifier, paths: Sequence[Path]) -> Iterator[Prediction]:
    """Yield what is seen in each image of these files.

    Raises UsageError, with a line for each file that cannot be used, before anything is computed.
    """
    found: list[tuple[Path, Bytes]] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append((path, read_images(path)))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    for path, images in found:
        for start in range(0, len(images), BATCH):
            pixels = torch.from_numpy(images[start : start + BATCH].astype(np.float32) / 255).unsqueeze(1)
            for number, row in enumerate(_probabilities(classifier, pixels), start):
                name = str(path) if len(images) == 1 else f"{path}[{number}]"
                yield _prediction(name, row, classifier.classes)


def _probabilities(classifier: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    try:
        answers = classifier.network(pixels)
        if answers.shape != (len(pixels), len(classifier.classes)) or len(classifier.classes) < 2:
            raise ValueError(f"an answer of the shape {tuple(answers.shape)} for {len(classifier.classes)} classes")
    except Exception as error:  # whatever operations, shapes and names somebody has written into the file
        raise UsageError(f"model: it cannot be computed ({' '.join(str(error).split())[:200]})") from error
    return answers


def _prediction(image: str, probabilities: torch.Tensor, classes: Sequence[str]) -> Prediction:
    (first, second), (best, next_best) = (pair.tolist() for pair in probabilities.topk(2))
    return Prediction(image, classes[best], first, classes[next_best], second)
