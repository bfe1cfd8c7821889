"""A look at what a loop will begin with, which changes nothing."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sweeptrail.errors import DataError


def first_batch(loader: Iterable[Any]) -> Tensor | None:
    """Return the inputs that the next iteration would begin with, leaving every random state as it was.

    Takes any loader, torch's own included. None where a batch is no sequence that begins with a
    tensor. Raises DataError for a loader without a batch.
    """
    # With persistent workers a DataLoader keeps its iterator, and the next one would draw less; the copy keeps it.
    source = copy(loader) if isinstance(loader, DataLoader) else loader
    with _random_states_kept(loader):
        batch = next(iter(source), None)
    if batch is None:
        raise DataError(f"loader: expected at least one batch, got none from {loader!r}")
    inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    return inputs if isinstance(inputs, Tensor) else None


@contextmanager
def _random_states_kept(loader: Iterable[Any]) -> Iterator[None]:
    generators = [torch.default_generator, *_generators(loader)]
    states = [(generator, generator.get_state()) for generator in generators]
    python, legacy_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
        random.setstate(python)
        np.random.set_state(legacy_numpy)


def _generators(source: object) -> Iterator[torch.Generator]:
    """Yield the generator of a loader or sampler, and those of the samplers that it draws from."""
    generator = getattr(source, "generator", None)
    if isinstance(generator, torch.Generator):
        yield generator
    for inner in (getattr(source, name, None) for name in ("sampler", "batch_sampler")):
        if inner is not None:
            yield from _generators(inner)
