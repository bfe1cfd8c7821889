"""One step of training, and evaluation."""

import ctypes
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from sweeptrail.errors import DataError

SLICE = 250
"""Samples of a large batch that are computed at a time on a CPU, so that they stay in its cache."""

EVALUATION_BATCH = 100
"""The batch size with which evaluation on a CPU is fastest."""


def keep_freed_memory() -> None:
    """Keep what this process frees for what it allocates next; call it once in a process that trains.

    By default glibc hands large blocks back to the system and gets them anew, page by page, in each
    step: about a sixth of a step's time here. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # The numbers are those of malloc.h; 32 MiB is the most that glibc takes for the first.
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD


def train_step(network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> tuple[Tensor, Tensor]:
    """Learn from one batch; return its logits and mean loss, as they were before, without their history.

    The gradients, which stay in the parameters, are those of the mean over the whole batch.
    """
    optimizer.zero_grad()
    size = slice_size(network, images)
    if size == len(images):
        preds = network(images)
        loss = functional.cross_entropy(preds, labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    else:
        preds, loss = _forward_backward_in_slices(network, images, labels, size)
    optimizer.step()
    return preds.detach(), loss.detach()


def slice_size(network: nn.Module, images: Tensor) -> int:
    """Return how many samples of a batch to compute at a time: all, unless slices are faster and certainly equal."""
    # Asked of the class itself: one derived from a class that declares it may do anything with a batch.
    is_declared = vars(type(network)).get("independent_samples", False)
    if len(images) <= SLICE or not is_declared or images.device.type != "cpu":
        return len(images)
    if any(isinstance(module, (_NormBase, _DropoutNd)) for module in network.modules()):
        return len(images)
    return SLICE


def _forward_backward_in_slices(network: nn.Module, images: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the batch's logits and mean loss; the gradients of the slices add up to those of that mean."""
    preds, losses = [], []
    for some_images, some_labels in zip(torch.split(images, size), torch.split(labels, size), strict=True):
        some_preds = network(some_images)
        loss = functional.cross_entropy(some_preds, some_labels, reduction="sum") / len(images)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        preds.append(some_preds.detach())
        losses.append(loss.detach())
    return torch.cat(preds), torch.stack(losses).sum()


OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}
"""For each optimizer of the settings: torch's class, and what differs from its defaults."""


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """Return torch's optimizer of that name in its fused form; sgd has a momentum of 0.9."""
    kind, options = OPTIMIZERS[name]
    parameters = list(parameters)
    fused = all(parameter.is_floating_point() for parameter in parameters)  # complex ones have no fused form
    return _without_compiler(kind)(parameters, lr=lr, weight_decay=weight_decay, fused=fused, **options)


def _without_compiler(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """Return the class without its provisions for torch.compile, whose import takes as long as torch's own."""
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


class Evaluation(NamedTuple):
    """What a network makes of some samples."""

    loss: float
    """Mean over the samples."""
    accuracy: float
    classes: Tensor
    """uint8, the most probable class of each sample, on the CPU."""
    confidences: Tensor
    """float32, the probability of that class, on the CPU."""


def evaluate(network: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """Return how a network does on all samples, without learning; every module keeps its mode.

    `loader` yields images and labels on the network's device, best EVALUATION_BATCH at a time.
    Raises DataError when it yields nothing.
    """
    modes = [(module, module.training) for module in network.modules()]
    losses, correct, classes, confidences, samples = [], [], [], [], 0
    network.eval()
    try:
        # Not inference_mode: what a network keeps from its first forward pass could never be trained with.
        with torch.no_grad():
            for images, labels in loader:
                preds = network(images)
                losses.append(functional.cross_entropy(preds, labels, reduction="sum"))
                classes.append(preds.argmax(1))
                confidences.append(functional.softmax(preds, 1).amax(1))
                correct.append((classes[-1] == labels).sum())
                samples += len(labels)
    finally:
        for module, mode in modes:
            module.training = mode
    if not samples:
        raise DataError(f"loader: expected at least one batch, got none from {loader!r}")
    # Read once: doing so for each batch would wait for a GPU each time.
    return Evaluation(
        math.fsum(torch.stack(losses).tolist()) / samples,
        sum(torch.stack(correct).tolist()) / samples,
        torch.cat(classes).to("cpu", torch.uint8),
        torch.cat(confidences).to("cpu", torch.float32),
    )
