"""A model of a person's own in the folder of a run, as MLflow keeps them."""

import copy
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.system.extras import need
from sweeptrail.training.artifacts import Kept, check_apart
from sweeptrail.training.export import FOLDER, About, export

if TYPE_CHECKING:
    from torch import Tensor, nn

DESCRIPTION = "MLmodel"
"""The file that makes a folder a model."""


def write(model: Any, example: Any, run_folder: Path, time: float) -> list[Kept]:
    """Write a model into the run's folder, or replace it whole; return its files.

    `time`, in seconds since 1970, is when it was reached. Raises UsageError for what is no model, and
    SweeptrailError for a network that cannot be exported.
    """
    folder = run_folder / FOLDER
    if isinstance(model, (str, Path)):
        _copy(Path(os.path.abspath(model)), folder)
    elif hasattr(model, "state_dict") and hasattr(model, "forward") and not isinstance(model, type):
        _export(model, example, folder, time)
    else:
        raise UsageError(
            "log_model: expected a torch network, or a folder that MLflow's save_model has written, "
            f"got a {type(model).__name__}; write manager.log_model(network, images)"
        )
    return list(_files(folder))


def _copy(source: Path, folder: Path) -> None:
    if not (source / DESCRIPTION).is_file():
        raise UsageError(
            f"log_model: expected a folder with a file {DESCRIPTION}, got {str(source)!r}; "
            "write one with mlflow.sklearn.save_model(model, folder), say"
        )
    check_apart(source, folder.parent, "log_model")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary)
    except (OSError, shutil.Error) as error:
        raise SweeptrailError(f"log_model: {str(source)!r} cannot be copied: {error}") from error
    if "model_id:" in (temporary / DESCRIPTION).read_text(encoding="utf-8", errors="replace"):
        from sweeptrail.outbox.plugin.models import without_ids  # MLflow, which has written it

        without_ids(temporary / DESCRIPTION, FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _export(network: "nn.Module", example: Any, folder: Path, time: float) -> None:
    need("log_model: a network", "torch")
    import torch

    batch = np.asarray(example.detach().cpu() if isinstance(example, torch.Tensor) else example)
    if batch.dtype.hasobject or batch.ndim == 0 or len(batch) < 2:
        got = "none" if example is None else f"a {type(example).__name__} of {batch.dtype} {batch.shape}"
        raise UsageError(
            f"log_model: expected an example of at least two samples, a tensor or an array, got {got}; "
            "write manager.log_model(network, images[:2])"
        )
    uuid = hashlib.sha256(f"{folder.absolute()} {time}".encode()).hexdigest()[:32]
    about = About(type(network).__name__, batch, {}, uuid, time)
    # A copy, for the CPU and for predictions: the training goes on as if nothing had been exported.
    with torch.random.fork_rng(devices=[]):
        try:
            copied = copy.deepcopy(network).cpu().eval()
        except Exception as error:
            raise SweeptrailError(f"log_model: {about.name} cannot be copied: {error}") from error
        export(copied, folder, about, read=_read)


def _read(path: Path) -> "Any":
    """Return the network in a file that was written just now; a stranger's is not for torch.export.load."""
    import torch

    network = torch.export.load(path).module()

    def answer(samples: "Tensor") -> "Tensor":
        found: Tensor = network(samples)
        return found

    return answer


def _files(folder: Path) -> Iterator[Kept]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.parent.relative_to(folder.parent).as_posix()
