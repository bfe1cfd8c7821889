"""The training loop, written out."""

import math
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from sweeptrail.engines.carry_out import failed
from sweeptrail.errors import DivergedError
from sweeptrail.fashion_mnist.batches import Loader, Splits, split
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.evaluation import predictions
from sweeptrail.fashion_mnist.evaluation.predictions import Predictions
from sweeptrail.fashion_mnist.networks import create
from sweeptrail.fashion_mnist.steps import EVALUATION_BATCH, evaluate, keep_freed_memory, make_optimizer, train_step
from sweeptrail.outbox.run_journal import Outbox
from sweeptrail.records import Epoch, Job, RunResult, RunStart
from sweeptrail.sweeps.settings import RunSettings
from sweeptrail.training.manager import RunManager
from sweeptrail.training.sinks import Sink
from sweeptrail.training.sinks.checkpoint import Checkpoint
from sweeptrail.training.sinks.tensorboard import TensorBoard


class Trainer:
    """Carries out jobs on the same data."""

    def __init__(self, data: FashionMnist) -> None:
        keep_freed_memory()
        self._data = data
        self._splits: dict[tuple[int | None, int, str], Splits] = {}

    def carry_out(self, job: Job) -> RunResult:
        """Carry out one run, or what is left of it; whatever goes wrong in it is in the result."""
        manager = None
        try:
            splits = self._splits_of(job.settings)
            learner = learner_of(job.settings, splits)
            checkpoint = Checkpoint(job.folder, key=job.key, optimizer=learner.optimizer)
            manager = RunManager(sinks_of(job, checkpoint))
            return train(job, learner, splits, manager, checkpoint)
        except Exception:
            error = traceback.format_exc()
            return manager.fail_run(error) if manager and manager.is_open else failed(job, error)
        except BaseException as error:
            if manager and manager.is_open:
                manager.fail_run(f"{type(error).__name__}: the sweep was stopped", "KILLED")
            raise

    def _splits_of(self, settings: RunSettings) -> Splits:
        """Return the data of a run, which most runs of a sweep have in common."""
        key = (settings.train_samples, settings.validation_samples, device_of(settings))
        if key not in self._splits:
            train_samples, validation_samples, device = key
            self._splits[key] = split(
                self._data, train_samples=train_samples, validation_samples=validation_samples, device=device
            )
        return self._splits[key]


class Learner(NamedTuple):
    """What a run trains, with what, on what."""

    network: nn.Module
    optimizer: Optimizer
    loader: Loader


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
    done = checkpoint.restore(network, loader) if "checkpoint" in job.sinks else []

    manager.begin_run(job.run, network, loader, start=start_of(job, resumed_after=len(done)))
    manager.go_on_after(done)
    for _ in range(len(done), job.settings.epochs):
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
    if not math.isfinite(epoch.loss):
        raise DivergedError(f"the loss is {epoch.loss} in epoch {epoch.epoch}; write a smaller lr")


def validation_metrics(network: nn.Module, splits: Splits) -> dict[str, float]:
    """Return the metrics on the images that were held out; none when none were."""
    if splits.validation is None:
        return {}
    validation = evaluate(network, Loader(splits.validation, EVALUATION_BATCH))
    return {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}


def start_of(job: Job, *, resumed_after: int) -> RunStart:
    """Return the fact that a job begins now, or goes on after so many epochs."""
    fixed = {name: value for name, value in asdict(job.settings).items() if name not in job.params}
    fixed["train_samples"] = fixed["train_samples"] or "all"
    return RunStart(
        job.index, job.name, job.params, fixed, job.settings.epochs, resumed_after=resumed_after, time=time.time()
    )


def sinks_of(job: Job, checkpoint: Checkpoint) -> list[Sink]:
    """Build the sinks that a job names, where it is carried out.

    An epoch is in the event file before it is in the checkpoint, and in the checkpoint before it is
    in the journal: whatever moment a run is killed at, the first can be cut and the last made up.
    """
    sweep_folder = str(Path(job.folder).parent)
    built: dict[str, Sink] = {
        "tensorboard": TensorBoard(sweep_folder),
        "checkpoint": checkpoint,
        "outbox": Outbox(sweep_folder, parent=job.parent, tags=job.tags),
    }
    return [sink for name, sink in built.items() if name in job.sinks]


def device_of(settings: RunSettings) -> str:
    """Return where the run is computed: `auto` is CUDA when there is one."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device
