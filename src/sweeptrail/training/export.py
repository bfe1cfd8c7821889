"""The best run's weights as an MLflow model that needs neither a pickle nor this package."""

import hashlib
import os
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.outbox import entries, journal
from sweeptrail.records import Job, RunResult

if TYPE_CHECKING:
    from torch import nn

FOLDER = "model"
"""Among the files and the artifacts of a run."""
DATA = Path("data", "model.pt2")
"""Where MLflow keeps the network in a model's folder."""

METADATA: Mapping[str, Any] = {
    "classes": list(CLASS_NAMES),
    "input": "float32, N x 1 x 28 x 28: grey bytes divided by 255, light on a black background",
    "output": "float32, N x 10: the probability of each class, in the order of `classes` (softmax of the logits)",
}
"""What whoever uses the model must know."""


@dataclass(frozen=True)
class Export:
    """What an engine is given to do with finished runs: make models of them, in a process that may load torch."""

    examples: NDArray[np.uint8]
    """At least two images, N x 28 x 28."""

    def __call__(self, job: Job) -> RunResult:
        """Export one run. Raises SweeptrailError when the network cannot be exported."""
        folder = Path(job.folder)
        export(folder / "checkpoint.pt", job.settings.network, folder / FOLDER, examples=self.examples)
        return RunResult(job.index, job.name, job.params, "FINISHED")


def artifacts(run_folder: Path) -> list[journal.Entry]:
    """Return a record for each file of the exported model."""
    files = (path.relative_to(run_folder) for path in sorted((run_folder / FOLDER).rglob("*")) if path.is_file())
    return [entries.artifact(file.as_posix(), file.parent.as_posix()) for file in files]


def version(job: Job, name: str, sweep: str, metric: str, value: float) -> journal.Entry:
    """Return the record that makes the files a version of a registered model; the run was chosen by `metric`."""
    tags = {"sweeptrail.sweep": sweep, "sweeptrail.run": job.name, "sweeptrail.key": job.key}
    return entries.version(
        name=name, metric=metric, value=value, data=_chosen_on(job, metric), parent=job.parent, tags=tags
    )


def _chosen_on(job: Job, metric: str) -> str:
    """Return on what data the run was chosen: only there can its value be compared with another's."""
    digest = job.tags.get("sweeptrail.data_digest", "")
    if metric.startswith("validation_"):
        return f"{digest}, {job.settings.validation_samples} held out"
    return f"{digest}, {job.settings.train_samples or 'all'} trained on"


def export(checkpoint: Path, network: str, folder: Path, *, examples: NDArray[np.uint8]) -> None:
    """Write the MLflow model with the weights of a checkpoint, or replace it whole; the same files each time.

    `network` is its name in the settings; `examples` are at least two images, N x 28 x 28.
    Raises SweeptrailError when the checkpoint cannot be read, or the network not exported.
    """
    import torch

    try:
        content = checkpoint.read_bytes()
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model = _with_probabilities(network, state["network"])
    except Exception as error:
        raise SweeptrailError(f"{checkpoint}: is no checkpoint of {network}: {_one_line(error)}") from error
    pixels = examples[:, np.newaxis].astype(np.float32) / np.float32(255)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's of its own types, torch's of its own changes
            _save(model, temporary, pixels, checkpoint=content, time=state["epochs"][-1]["time"])
        _check(model, temporary, pixels)
    except Exception as error:
        raise SweeptrailError(f"network: {network} cannot be exported: {_one_line(error)}") from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _with_probabilities(network: str, weights: Mapping[str, Any]) -> "nn.Module":
    from torch import nn

    from sweeptrail.fashion_mnist.networks import create

    trained = create(network)
    trained.load_state_dict(weights)
    return nn.Sequential(OrderedDict(network=trained, probabilities=nn.Softmax(dim=1))).eval()


def _save(model: "nn.Module", folder: Path, pixels: NDArray[np.float32], *, checkpoint: bytes, time: float) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature
    from torch.fx import config

    with torch.no_grad():
        outputs = model(torch.from_numpy(pixels)).numpy()
    described = Model(
        utc_time_created=str(datetime.fromtimestamp(time, UTC).replace(tzinfo=None)),
        model_uuid=hashlib.sha256(checkpoint).hexdigest()[:32],  # a random one would differ each time
    )
    config.do_not_emit_stack_traces = True  # they hold paths of this machine
    try:
        mlflow.pytorch.save_model(
            model,
            folder,
            mlflow_model=described,
            signature=infer_signature(pixels, outputs),
            input_example=pixels,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "torch")],
            metadata=dict(METADATA),
            serialization_format="pt2",
        )
    finally:
        config.do_not_emit_stack_traces = False
    # MLflow would choose CUDA where there is some, and then refuse a network that was exported on the CPU.
    described.flavors["python_function"]["config"] = {"device": "cpu"}
    described.save(folder / "MLmodel")


def _check(model: "nn.Module", folder: Path, pixels: NDArray[np.float32]) -> None:
    """Raise ValueError unless the exported network answers as the one it was made from, to another number of images."""
    import torch

    from sweeptrail.training import pt2

    images = torch.from_numpy(np.concatenate([pixels, pixels[:1]]))
    with torch.no_grad():
        if not torch.allclose(pt2.read(folder / DATA)(images), model(images), atol=1e-5):
            raise ValueError("the exported network gives other numbers; it must not depend on the size of the batch")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
