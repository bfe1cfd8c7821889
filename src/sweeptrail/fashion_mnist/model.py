"""A run's weights as a model that answers with the probability of each class."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sweeptrail.errors import SweeptrailError, one_line
from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.fashion_mnist.networks import create
from sweeptrail.records import Job, RunResult
from sweeptrail.training.export import FOLDER, About, export
from sweeptrail.training.sinks import checkpoint

METADATA: Mapping[str, Any] = {
    "classes": list(CLASS_NAMES),
    "input": "float32, N x 1 x 28 x 28: grey bytes divided by 255, light on a black background",
    "output": "float32, N x 10: the probability of each class, in the order of `classes` (softmax of the logits)",
}
"""What whoever uses the model must know."""


@dataclass(frozen=True)
class Export:
    """What an engine is given to do with finished runs: make models of them."""

    examples: NDArray[np.uint8]
    """At least two images, N x 28 x 28."""

    def __call__(self, job: Job) -> RunResult:
        """Export one run. Raises SweeptrailError when its checkpoint cannot be read, or its network not exported."""
        name = job.values["network"]
        path = Path(job.folder, checkpoint.FILE_NAME)
        try:
            content = path.read_bytes()
            state = checkpoint.load(path)
            model = _with_probabilities(name, state["state"]["network"])
        except Exception as error:
            raise SweeptrailError(f"{path}: is no checkpoint of {name}: {one_line(error)}") from error
        pixels = self.examples[:, np.newaxis].astype(np.float32) / np.float32(255)
        uuid = hashlib.sha256(content).hexdigest()[:32]
        about = About(name, pixels, METADATA, uuid, state["epochs"][-1]["time"])
        export(model, Path(job.folder, FOLDER), about)
        return RunResult(job.index, job.name, job.params, "FINISHED")


def _with_probabilities(network: str, weights: Mapping[str, Any]) -> nn.Module:
    trained = create(network)
    trained.load_state_dict(weights)
    return nn.Sequential(OrderedDict(network=trained, probabilities=nn.Softmax(dim=1))).eval()
