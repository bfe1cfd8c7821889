"""One run of Fashion-MNIST, the training loop written out."""

import math
from functools import lru_cache
from pathlib import Path
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
from sweeptrail.fashion_mnist.settings import RunSettings
from sweeptrail.fashion_mnist.steps import EVALUATION_BATCH, evaluate, keep_freed_memory, make_optimizer, train_step
from sweeptrail.records import Epoch, Job, RunResult
from sweeptrail.search.space import make_run
from sweeptrail.training.manager import RunManager
from sweeptrail.training.sinks.checkpoint import Checkpoint
from sweeptrail.training.work import start_of


class Learner(NamedTuple):
    """What a run trains, with what, on what."""

    network: nn.Module
    optimizer: Optimizer
    loader: Loader


def carry_out(job: Job, data: FashionMnist, manager: RunManager, checkpoint: Checkpoint) -> RunResult:
    """Carry out one run, or what is left of it."""
    keep_freed_memory()
    settings = RunSettings(**job.values)
    splits = splits_of(data, settings.train_samples, settings.validation_samples, device_of(settings))
    return train(job, learner_of(settings, splits), splits, manager, checkpoint)


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


def train(job: Job, learner: Learner, splits: Splits, manager: RunManager, checkpoint: Checkpoint) -> RunResult:
    """Train one network from its first batch, or from its last checkpoint, to its test."""
    network, optimizer, loader = learner
    done = checkpoint.restore(network, optimizer, loader) if "checkpoint" in job.sinks else []

    run = make_run(job.params, job.params.values())
    manager.begin_run(run, network, loader, start=start_of(job, resumed_after=len(done)))
    manager.resume(done)
    for _ in range(len(done), job.values["epochs"]):
        manager.begin_epoch()
        for images, labels in loader:
            preds, loss = train_step(network, images, labels, optimizer)
            manager.track_loss(loss)
            manager.track_num_correct(preds, labels)
        stop_if_diverged(manager.end_epoch(**validation_metrics(network, splits)))
    test = evaluate(network, Loader(splits.test, EVALUATION_BATCH))
    if job.sinks:
        Predictions(test.classes.numpy(), test.confidences.numpy()).save(Path(job.folder, predictions.FILE_NAME))
    return manager.end_run(test_loss=test.loss, test_accuracy=test.accuracy)


def stop_if_diverged(epoch: Epoch) -> None:
    """Raise DivergedError if the loss of an epoch is no number any more."""
    if not math.isfinite(epoch.metrics["loss"]):
        raise DivergedError(f"the loss is {epoch.loss} in epoch {epoch.epoch}; write a smaller lr")


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
