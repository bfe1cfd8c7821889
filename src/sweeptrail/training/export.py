"""A network as an MLflow model that needs neither a pickle nor this package."""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeptrail.errors import SweeptrailError, one_line

if TYPE_CHECKING:
    from torch import nn

FOLDER = "model"
"""Among the files and the artifacts of a run."""
DATA = Path("data", "model.pt2")
"""Where MLflow keeps the network in a model's folder."""


@dataclass(frozen=True)
class About:
    """What a model's folder says beside the network."""

    name: str
    """What the network is called."""
    example: NDArray[Any]
    """At least two samples, so that the size of a batch stays free."""
    metadata: Mapping[str, Any]
    """What whoever uses the model must know."""
    uuid: str
    """In 32 hexadecimal digits: MLflow's own would be another each time."""
    time: float
    """Seconds since 1970, when the weights were reached."""


def pt2_read(path: Path) -> Any:
    """Return the network in a file, as it is read from strangers too."""
    from sweeptrail.training import pt2

    return pt2.read(path)


def export(network: "nn.Module", folder: Path, about: About, read: Callable[[Path], Any] = pt2_read) -> None:
    """Write the MLflow model, or replace it whole; the same files each time.

    `read` reads the network back, which must give the same numbers.

    Raises SweeptrailError when the network cannot be exported.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's of its own types, torch's of its own changes
            _save(network, temporary, about)
        _check(network, read(temporary / DATA), about.example)
    except Exception as error:
        raise SweeptrailError(f"network: {about.name} cannot be exported: {one_line(error)}") from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _save(network: "nn.Module", folder: Path, about: About) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature
    from torch.fx import config

    with torch.no_grad():
        outputs = network(torch.from_numpy(about.example)).numpy()
    described = Model(
        utc_time_created=str(datetime.fromtimestamp(about.time, UTC).replace(tzinfo=None)), model_uuid=about.uuid
    )
    config.do_not_emit_stack_traces = True  # they hold paths of this machine
    try:
        mlflow.pytorch.save_model(
            network,
            folder,
            mlflow_model=described,
            signature=infer_signature(about.example, outputs),
            input_example=about.example,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "torch")],
            metadata=dict(about.metadata),
            serialization_format="pt2",
        )
    finally:
        config.do_not_emit_stack_traces = False
    # MLflow would choose CUDA where there is some, and then refuse a network that was exported on the CPU.
    described.flavors["python_function"]["config"] = {"device": "cpu"}
    described.save(folder / "MLmodel")


def _check(network: "nn.Module", exported: Callable[[Any], Any], example: NDArray[Any]) -> None:
    """Raise ValueError unless the exported network answers as the one it was made from, to one sample more."""
    import torch

    samples = torch.from_numpy(np.concatenate([example, example[:1]]))
    with torch.no_grad():
        if not torch.allclose(exported(samples), network(samples), atol=1e-5):
            raise ValueError("the exported network gives other numbers; it must not depend on the size of the batch")
