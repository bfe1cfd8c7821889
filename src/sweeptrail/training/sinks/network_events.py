"""What TensorBoard shows of a network: its first images, its graph, histograms of its weights and gradients."""

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from sweeptrail.records import RunStart
from sweeptrail.training.sinks.first_batch import first_batch

SHOWN_IMAGES = 100
"""How many images of the first batch are shown; a thousand would cost 0.3 s and 0.8 MB."""


def add_network(writer: SummaryWriter, network: nn.Module | None, loader: Any, start: RunStart) -> None:
    """Write the images of the first batch and the graph; what is no image or no single input is left out.

    A graph that cannot be drawn costs a warning.
    """
    # A look at an iterator would take its batch away; making one of a DataLoader would draw a random number.
    if loader is None or hasattr(loader, "__next__"):
        return
    inputs = first_batch(loader)
    if inputs is None:
        return
    if inputs.dim() == 4 and inputs.shape[1] in (1, 3):
        writer.add_images("images", inputs[:SHOWN_IMAGES], walltime=start.time or None)
    if network is not None:
        _add_graph(writer, network, inputs[:1], start)


def histograms(network: nn.Module, bins: NDArray[np.float64]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what add_histogram_raw takes for each parameter and its gradient, by the name of its tag."""
    for name, parameter in network.named_parameters():
        for tag, tensor in ((name, parameter), (f"{name}.grad", parameter.grad)):
            if tensor is not None and (histogram := _histogram(tensor, bins)):
                yield tag, histogram


def _add_graph(writer: SummaryWriter, network: nn.Module, images: Tensor, start: RunStart) -> None:
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", r"`torch.jit.trace(_method)?` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "The input to trace is already a ScriptModule", UserWarning)
            # A copy, since add_graph would put every layer of the network into training mode, frozen ones too.
            copy = deepcopy(network).cpu().eval()
            # Traced here because add_graph would check the trace, which imports sympy: 0.9 s for each process.
            trace = torch.jit.trace(copy, images.cpu(), check_trace=False)  # type: ignore[no-untyped-call]  # torch has no types for it
            writer.add_graph(trace, images.cpu())
    except OSError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"{start.name}: TensorBoard shows no graph: {type(error).__name__}: {reason}", stacklevel=2)


def _histogram(tensor: Tensor, bins: NDArray[np.float64]) -> Mapping[str, Any] | None:
    """Return what add_histogram would write, without runs of empty bins: a fifth of its bytes and time.

    TensorFlow's own encoder leaves them out as well (`preserve_zero_buckets` in its histogram.cc).
    None when no value can be counted, for which add_histogram raises.
    """
    values = tensor.detach().cpu().double().numpy().ravel()
    if not np.isfinite(values).all():
        return None
    counts, _ = np.histogram(values, bins)
    filled = counts > 0
    if not filled.any():
        return None
    kept = np.flatnonzero(filled | np.append(filled[1:], False))  # a bin begins where the one before it ends
    return {
        "min": values.min(),
        "max": values.max(),
        "num": values.size,
        "sum": values.sum(),
        "sum_squares": np.square(values).sum(),  # values @ values would wake a thread of BLAS on every core
        "bucket_limits": bins[kept + 1].tolist(),
        "bucket_counts": counts[kept].tolist(),
    }
