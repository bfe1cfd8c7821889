"""A network of known weights, exported as the champion of a sweep is."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sweeptrail.fashion_mnist.networks import create
from sweeptrail.outbox.journal import Entry
from sweeptrail.records import Job
from sweeptrail.search.space import Run, RunBuilder
from sweeptrail.sweeps.settings import RunSettings
from sweeptrail.training import export as model

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
    run: Run = RunBuilder.get_runs({"lr": [0.01]})[0]
    tags = {"sweeptrail.key": "k1", "sweeptrail.data_digest": "d1"}
    return Job(1, NAME, run, RunSettings(network=network), str(run_folder), parent="c0ffee", tags=tags)


def export(given: Job) -> list[Entry]:
    """Export the job's network and return what its journal must say."""
    model.Export(images(2))(given)
    return [
        *model.artifacts(Path(given.folder)),
        model.version(given, "fashion-mnist", "monday", "validation_accuracy", 0.9),
    ]


def probabilities(given: Job, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Return what the network of the checkpoint, not the exported one, says of N x 28 x 28."""
    network = create(given.settings.network)
    network.load_state_dict(torch.load(Path(given.folder, "checkpoint.pt"), weights_only=True)["network"])
    with torch.no_grad():
        return network.eval()(torch.from_numpy(pictures / np.float32(255)).unsqueeze(1)).softmax(1)  # type: ignore[no-any-return]  # calling a module has no type
