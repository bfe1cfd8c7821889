"""One run of Fashion-MNIST, the training loop written out."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from sweeptrail.errors import DivergedError
from sweeptrail.fashion_mnist.batches import Loader, Splits, split
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.evaluation import predictions
from sweeptrail.fashion_mnist.evaluation.predictions import Predictions
from sweeptrail.fashion_mnist.networks import create
from sweeptrail.fashion_mnist.settings import DATA, RunSettings
from sweeptrail.fashion_mnist.steps import EVALUATION_BATCH, evaluate, keep_freed_memory, make_optimizer, train_step
from sweeptrail.training.manager import RunManager


class Learner(NamedTuple):
    """What a run trains, with what, on what."""

    network: nn.Module
    optimizer: Optimizer
    loader: Loader


def train(
    manager: RunManager,
    *,
    lr: float = 0.01,
    batch_size: int = 100,
    shuffle: bool = True,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    network: str = "Network",
    seed: int = 0,
    epochs: int = 3,
    train_samples: int | None = None,
    validation_samples: int = 5000,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Train one network from its first batch, or from its last checkpoint, to its test."""
    settings = RunSettings(
        lr, batch_size, shuffle, optimizer, weight_decay, network, seed, epochs, train_samples, validation_samples,
        threads, device,
    )  # fmt: skip
    keep_freed_memory()
    splits = splits_of(manager.shared[DATA], train_samples, validation_samples, device_of(settings))
    learner = learner_of(settings, splits)
    loop = manager.epochs(epochs, learner.network, learner.optimizer, learner.loader)
    for _ in until_diverged(manager, loop):
        for images, labels in learner.loader:
            preds, loss = train_step(learner.network, images, labels, learner.optimizer)
            manager.track_loss(loss)
            manager.track_num_correct(preds, labels)
        manager.log(**validation_metrics(learner.network, splits))
    test = evaluate(learner.network, Loader(splits.test, EVALUATION_BATCH))
    if manager.folder:
        Predictions(test.classes.numpy(), test.confidences.numpy()).save(manager.folder / predictions.FILE_NAME)
    manager.log(test_loss=test.loss, test_accuracy=test.accuracy)


def until_diverged(manager: RunManager, loop: Iterator[int]) -> Iterator[int]:
    """Yield the epochs; raises DivergedError after one whose loss is no number any more."""
    for epoch in loop:
        _stop_if_diverged(manager)
        yield epoch
    _stop_if_diverged(manager)


def _stop_if_diverged(manager: RunManager) -> None:
    last = manager.run_data[-1] if manager.run_data else None
    if last and not math.isfinite(last["loss"]):
        raise DivergedError(f"the loss is {last['loss']} in epoch {last['epoch']}; write a smaller lr")


@lru_cache
def splits_of(data: FashionMnist, train_samples: int | None, validation_samples: int, device: str) -> Splits:
    """Return the data of a run, which most runs of a sweep have in common."""
    return split(data, train_samples=train_samples, validation_samples=validation_samples, device=device)


def learner_of(settings: RunSettings, splits: Splits) -> Learner:
    """Return an untrained network with all that belongs to it; the seed alone decides its numbers."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    network = create(settings.network).to(device_of(settings))
    optimizer = make_optimizer(settings.optimizer, network.parameters(), settings.lr, settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    loader = Loader(splits.train, settings.batch_size, shuffle=settings.shuffle, generator=generator)
    return Learner(network, optimizer, loader)


def validation_metrics(network: nn.Module, splits: Splits) -> dict[str, float]:
    """Return the metrics on the images that were held out; none when none were."""
    if splits.validation is None:
        return {}
    validation = evaluate(network, Loader(splits.validation, EVALUATION_BATCH))
    return {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}


def device_of(settings: RunSettings) -> str:
    """Return where the run is computed: `auto` is CUDA when there is one."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device
