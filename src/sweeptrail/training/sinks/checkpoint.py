"""The sink that keeps what a run needs to go on after its last epoch."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sweeptrail.errors import SweeptrailError
from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.system.files import sync_folder

FILE_NAME = "checkpoint.pt"


class Checkpoint:
    """Writes weights, optimizer, generators and all epochs so far into one file, whole, after each epoch."""

    def __init__(self, folder: str, *, key: str) -> None:
        """`key` is what the run is recognised by: another run's checkpoint is never taken for its own."""
        self._path = Path(folder, FILE_NAME)
        self._key = key
        self._epochs: list[Epoch] = []

    def restore(self, network: nn.Module, optimizer: Optimizer, loader: Any) -> list[Epoch]:
        """Put network, optimizer and generators where the last epoch left them; return the epochs so far.

        From now on the optimizer is kept as well.

        Without a checkpoint, or with one that is damaged or of another run, nothing is changed and
        no epoch returned: the run begins anew.
        """
        self._optimizer = optimizer
        state = _load(self._path)
        if state is None or state["key"] != self._key:
            return []
        network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        loader.generator.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        return list(self._epochs)

    def begin(self, start: RunStart, network: nn.Module, loader: Any) -> None:
        self._network, self._loader = network, loader
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def epoch(self, epoch: Epoch) -> None:
        """Write the file. Raises SweeptrailError when it cannot be written: the run could not go on later."""
        if self._epochs and epoch.epoch <= self._epochs[-1].epoch:
            return  # it was restored from here
        self._epochs.append(epoch)
        state = {
            "key": self._key,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "order": self._loader.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epochs": [asdict(epoch) for epoch in self._epochs],
        }
        temporary = self._path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            sync_folder(self._path.parent)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            raise SweeptrailError(f"{self._path}: cannot be written: {error}") from error

    def end(self, result: RunResult) -> None:
        """Keep the file: it holds the weights."""


def _load(path: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # whatever a damaged file makes torch or zipfile raise; weights_only runs no code of it
        return None
    return state
