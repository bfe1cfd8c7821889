"""The sink that keeps what a run needs to go on after its last epoch."""

import io
import os
import random
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from sweeptrail.errors import SweeptrailError, one_line
from sweeptrail.records import Epoch
from sweeptrail.sink import Sink
from sweeptrail.system.extras import need
from sweeptrail.system.files import sync_folder

FILE_NAME = "checkpoint.pt"

CLASSIC = ("network", "optimizer")
"""What has a place of its own in the file, as in version 0.1; whatever else a task keeps is under `state`."""


@dataclass(frozen=True)
class Restored:
    """How far a run was."""

    epochs: tuple[Epoch, ...]
    latest: Mapping[str, tuple[int, float]]
    """What had been logged by steps: the highest step of each metric, and its value there."""
    is_over: bool
    """Whether the loop was left after the last of the epochs."""


class Checkpoint(Sink):
    """Writes weights, optimizer, generators and all epochs so far into one file, whole, after each epoch."""

    is_vital = True

    def __init__(self, folder: str, *, key: str, former_keys: Collection[str] = ()) -> None:
        """`key` is what the run is recognised by: another run's checkpoint is never taken for its own.

        `former_keys` are those it had when it was asked for fewer epochs.
        """
        self._path = Path(folder, FILE_NAME)
        self._key = key
        self._former_keys = former_keys
        self._kept: Mapping[str, Any] = {}
        self._generator: Any = None
        self._epochs: list[Epoch] = []
        self._latest: dict[str, tuple[int, float]] = {}
        self._is_proven = False
        self.is_over = False
        """Whether the loop is left after the epoch that comes next."""

    def restore(self, kept: Mapping[str, Any], loader: Any) -> Restored | None:
        """Put all that is kept, the loader's generator and the global ones where the last epoch left them.

        From now on they are kept after each epoch. Without a checkpoint, or with one that is
        damaged or of another run, nothing is changed and the run begins anew. Raises TypeError for
        something without a `state_dict`, and MissingPackageError without torch.
        """
        for name, each in kept.items():
            if not (hasattr(each, "state_dict") and hasattr(each, "load_state_dict")):
                raise TypeError(f"epochs(): {name} has no state_dict and load_state_dict, so it cannot be kept")
        need(f"epochs(): keeping {', '.join(kept)} in a checkpoint", "torch")
        self._kept, self._generator = kept, _generator_of(loader)
        state = self._read()
        if state is None:
            return None
        for name, each in kept.items():
            each.load_state_dict(state["state"][name])
        if self._generator is not None and state["order"] is not None:
            self._generator.set_state(state["order"])
        _set_random_states(state)
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self._latest = {name: (step, value) for name, (step, value) in state["latest"].items()}
        return Restored(tuple(self._epochs), dict(self._latest), state["is_over"])

    def measure(self, values: Mapping[str, float], step: int, time: float) -> None:
        for name, value in values.items():
            if name not in self._latest or step >= self._latest[name][0]:
                self._latest[name] = step, value

    def epoch(self, epoch: Epoch) -> None:
        """Write the file. Raises SweeptrailError when it cannot be written: the run could not go on later."""
        if not self._kept or (self._epochs and epoch.epoch <= self._epochs[-1].epoch):
            return  # nothing to keep, or it was restored from here
        self._epochs.append(epoch)
        self._write(
            {
                "key": self._key,
                **{name: each.state_dict() for name, each in self._kept.items() if name in CLASSIC},
                "state": {name: each.state_dict() for name, each in self._kept.items() if name not in CLASSIC},
                "order": None if self._generator is None else self._generator.get_state(),
                **_random_states(),
                "epochs": [asdict(epoch) for epoch in self._epochs],
                "latest": {name: list(found) for name, found in self._latest.items()},
                "is_over": self.is_over,
            }
        )

    def _write(self, state: Mapping[str, Any]) -> None:
        import torch  # whoever has something with a state_dict has loaded it

        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            raise SweeptrailError(f"{self._path}: cannot be written: {error}") from error
        except Exception as error:  # whatever cannot be pickled
            temporary.unlink()
            _blame(state, error)
        if not self._is_proven:
            _prove(temporary, state)
            self._is_proven = True
        os.replace(temporary, self._path)
        sync_folder(self._path.parent)

    def _read(self) -> dict[str, Any] | None:
        """Return what the file holds, if it is this run's and has all that is kept."""
        if not self._path.exists():
            if self._former_keys:
                self.remarks = [f"there is no {FILE_NAME} here, so the run begins anew"]
            return None
        try:
            state = load(self._path)
        except Exception as error:  # whatever a damaged file makes torch or zipfile raise
            self.remarks = [f"{FILE_NAME} cannot be read, so the run begins anew: {one_line(error)}"]
            return None
        if state["key"] not in (self._key, *self._former_keys):
            return None
        if missing := self._kept.keys() - state["state"].keys():
            self.remarks = [f"{FILE_NAME} does not hold {', '.join(sorted(missing))}, so the run begins anew"]
            return None
        return state


def load(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of this or an earlier version holds, all state under `state`; runs no code of it."""
    import torch

    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    classic = {name: content.pop(name) for name in CLASSIC if name in content}
    defaults: dict[str, Any] = {
        "python": None,
        "numpy": None,
        "latest": {},
        "is_over": False,
    }  # version 0.1 has none of these
    return {**defaults, **content, "state": {**classic, **content.get("state", {})}}


def _prove(path: Path, state: Mapping[str, Any]) -> None:
    """Raise TypeError, naming it, for state that can be written but not read back without a pickle."""
    try:
        load(path)
    except Exception as error:
        path.unlink()
        _blame(state, error)


def _blame(state: Mapping[str, Any], error: Exception) -> NoReturn:
    """Raise TypeError, naming it, for the state that the error comes from."""
    import torch

    for name, each in {**{key: state[key] for key in CLASSIC if key in state}, **state["state"]}.items():
        buffer = io.BytesIO()
        try:
            torch.save(each, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception:
            raise TypeError(
                f"epochs(): the state_dict of {name} cannot be kept: it holds something else than tensors, "
                "numbers, text, lists and mappings; write float(...) for a numpy scalar, say"
            ) from error
    raise error


def _generator_of(loader: Any) -> Any:
    generator = getattr(loader, "generator", None)
    return generator if hasattr(generator, "get_state") else None


def _random_states() -> dict[str, Any]:
    import torch

    states: dict[str, Any] = {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": None,
    }
    if numpy := sys.modules.get("numpy"):
        name, keys, *rest = numpy.random.get_state()
        states["numpy"] = [name, keys.tolist(), *rest]
    return states


def _set_random_states(states: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(states["random"])
    if states["random_cuda"]:
        torch.cuda.set_rng_state_all(states["random_cuda"])
    if states["python"]:
        random.setstate(states["python"])
    if states["numpy"]:
        import numpy

        numpy.random.set_state(tuple(states["numpy"]))
