"""What can be set of a run of Fashion-MNIST."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeptrail.search.text import OrNone, Parameter, boolean, number, one_of

NAME = "fashion-mnist"

DATA = "data"
"""The name of the data among what the runs have in common."""

TRAIN_IMAGES = 60_000
"""How many training images there are."""

OPTIMIZERS = ("adam", "adamw", "sgd")
NETWORKS = ("Network",)
"""The built-in networks; any other is written `module:Class`."""

STEP_COST = 20
"""What a batch costs beside its samples, in samples; measured with `Network` and Adam on one core: 300, 230, 125 and
120 microseconds a sample in batches of 10, 25, 100 and 1000."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that a single run is carried out with."""

    lr: float = 0.01
    batch_size: int = 100
    shuffle: bool = True
    optimizer: str = "adam"
    weight_decay: float = 0.0
    network: str = "Network"
    seed: int = 0
    epochs: int = 3
    train_samples: int | None = None
    """How many training images to use; None for all that are not held out."""
    validation_samples: int = 5000
    threads: int = 1
    device: str = "auto"

    @property
    def cost(self) -> float:
        """How long a run may take, in training samples.

        An epoch takes as long as its samples plus, for each batch, STEP_COST samples more.
        """
        samples = self.train_samples or TRAIN_IMAGES - self.validation_samples
        return self.epochs * samples * (1 + STEP_COST / self.batch_size)


def _network(text: str) -> str:
    module, colon, cls = text.partition(":")
    is_own = colon and cls.isidentifier() and all(part.isidentifier() for part in module.split("."))
    if text not in NETWORKS and not is_own:
        raise ValueError
    return text


def _device(text: str) -> str:
    kind, colon, ordinal = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not (kind == "cuda" and ordinal.isdecimal())):
        raise ValueError
    return text


def _axis(name: str, default: str, parse: Any, expected: str, meaning: str, **more: Any) -> Parameter:
    return Parameter(name, default, parse, expected, meaning, is_axis=True, **more)


PARAMETERS = (
    _axis("lr", "0.01,0.001", number(float, 0, above=True), "positive numbers", "learning rates", is_column=True),
    _axis("batch_size", "100,1000", number(int, 1), "whole numbers from 1", "samples in a batch", is_column=True),
    _axis(
        "shuffle", "true,false", boolean, "true or false", "whether each epoch has an order of its own", is_column=True
    ),
    _axis("optimizer", "adam", one_of(OPTIMIZERS), f"any of {', '.join(OPTIMIZERS)}", "what learns from the gradients"),
    _axis("weight_decay", "0", number(float, 0), "numbers from 0", "weight decay of the optimizer", example="0,0.0001"),
    _axis(
        "network",
        "Network",
        _network,
        f"{' or '.join(NETWORKS)}, or module:Class of your own",
        "the network by name, or a class of your own",
    ),
    _axis("seed", "0", number(int, 0), "whole numbers from 0", "seed of the weights and of the order"),
    Parameter("epochs", "3", number(int, 1), "a whole number from 1", "times through the training images"),
    Parameter(
        "train_samples",
        "all",
        OrNone("all", number(int, 1)),
        "a whole number from 1, or all",
        "how many training images are used",
    ),
    Parameter(
        "validation_samples",
        "5000",
        number(int, 0),
        "a whole number from 0",
        "how many training images are held out to choose the best run by",
    ),
    Parameter("threads", "1", number(int, 1), "a whole number from 1", "threads of one run", changes_numbers=False),
    Parameter(
        "device",
        "auto",
        _device,
        "auto, cpu, cuda, cuda:0 or mps",
        "where a run is computed; `auto` is CUDA when there is one",
        changes_numbers=False,
    ),
    Parameter(
        "data_dir",
        "auto",
        OrNone("auto", str),
        "a folder with the four files of Fashion-MNIST, or auto",
        "the folder with the data",
        is_of_run=False,
    ),
)


def problems(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield what is wrong between settings that are each right; those with a mistake are not there."""
    held_out = values.get("validation_samples", 0)
    available = TRAIN_IMAGES - held_out
    if available < 1:
        yield (
            f"validation_samples: expected less than the {TRAIN_IMAGES} training images, got {held_out}; "
            "write validation_samples=5000"
        )
        return
    wanted = values.get("train_samples") or available
    if wanted > available:
        yield (
            f"train_samples: expected at most {available}, which is {TRAIN_IMAGES} less validation_samples, "
            f"got {wanted}; write train_samples=all"
        )
        wanted = available
    too_big = [size for size in values.get("batch_size", ()) if size > wanted]
    if too_big:
        yield f"batch_size: expected at most the {wanted} training samples, got {max(too_big)}; write batch_size=100"
