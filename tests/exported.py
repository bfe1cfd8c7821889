"""A network of known weights, exported as the champion of a sweep is."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sweeptrail.fashion_mnist.model import Export
from sweeptrail.fashion_mnist.networks import create
from sweeptrail.fashion_mnist.settings import RunSettings
from sweeptrail.fashion_mnist.task import TASK
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Entry, Version
from sweeptrail.outbox.run_journal import add_model
from sweeptrail.records import Job
from sweeptrail.training.export import FOLDER

NAME = "1_lr=0.01"


def images(count: int) -> NDArray[np.uint8]:
    """Return noise, the same each time."""
    return np.random.default_rng(1).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def job(folder: Path, network: str = "Network") -> Job:
    """Return a job that has left a checkpoint in its folder; the seed decides its weights."""
    torch.manual_seed(0)
    run_folder = folder / NAME
    run_folder.mkdir(parents=True, exist_ok=True)
    state = {"network": create(network).state_dict(), "epochs": [{"time": 1000.5}]}
    torch.save(state, run_folder / "checkpoint.pt")
    tags = {"sweeptrail.key": "k1", "sweeptrail.data_digest": "d1"}
    settings = asdict(RunSettings(network=network))
    return Job(1, NAME, {"lr": settings.pop("lr")}, settings, str(run_folder), "k1", parent="c0ffee", tags=tags)


def export(given: Job) -> list[Entry]:
    """Export the job's network and return what its journal says of that."""
    Export(images(2))(given)
    folder = Path(given.folder)
    version = Version(
        name="fashion-mnist",
        metric="validation_accuracy",
        value=0.9,
        data=TASK.chosen_on(given, "validation_accuracy"),
        parent=given.parent,
        tags={"sweeptrail.sweep": "monday", "sweeptrail.run": NAME, "sweeptrail.key": given.key},
    )
    known = len(journal.read(folder / journal.FILE_NAME))
    add_model(folder, FOLDER, version)
    return [entry for entry, _ in journal.read(folder / journal.FILE_NAME)][known:]


def probabilities(given: Job, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Return what the network of the checkpoint, not the exported one, says of N x 28 x 28."""
    network = create(given.settings["network"])
    network.load_state_dict(torch.load(Path(given.folder, "checkpoint.pt"), weights_only=True)["network"])
    with torch.no_grad():
        return network.eval()(torch.from_numpy(pictures / np.float32(255)).unsqueeze(1)).softmax(1)  # type: ignore[no-any-return]  # calling a module has no type
