"""TensorBoard's event files: images, graph, scalars, histograms and the hyperparameters of each run."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.training.sinks.first_batch import first_batch

SHOWN_IMAGES = 100
"""How many images of the first batch are shown; a thousand would cost 0.3 s and 0.8 MB."""


class TensorBoard:
    """Writes each run's event file into a folder named after the run, below `parent`.

    Every value has an explicit step: 0 for what is known at the beginning, the epoch's number from then on.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._network: nn.Module | None = None
        self.writer: SummaryWriter | None = None
        """The writer of the open run; None between runs."""

    def begin(self, start: RunStart, network: nn.Module, loader: Any) -> None:
        """Write the images, the graph and the hyperparameters; what cannot be drawn costs a warning."""
        images, _ = first_batch(loader)
        self._network, self._known_epochs = network, start.resumed_after
        folder = os.path.join(self._parent, start.name)
        cut_events(folder, start.resumed_after)
        self.writer = SummaryWriter(folder)
        if start.resumed_after:
            return
        with self._closing_after_an_error() as writer:
            _add_images(writer, images[:SHOWN_IMAGES], start)
            _add_graph(writer, network, images[:1], start)
            _add_session(writer, metadata.SESSION_START_INFO_TAG, session_start_info=_session_start(start))
            writer.flush()

    def epoch(self, epoch: Epoch) -> None:
        """Write the scalars and the histograms; they are on disk when this returns."""
        assert self._network
        if epoch.epoch <= self._known_epochs:
            return
        at = {"global_step": epoch.epoch, "walltime": epoch.time or None}
        with self._closing_after_an_error() as writer:
            for name, value in {"loss": epoch.loss, "accuracy": epoch.accuracy, **epoch.extra}.items():
                writer.add_scalar(_tag(name), value, **at)
            bins = np.array(writer.default_bins)
            for name, parameter in self._network.named_parameters():
                for tag, tensor in ((name, parameter), (f"{name}.grad", parameter.grad)):
                    if tensor is not None and (histogram := _histogram(tensor, bins)):
                        writer.add_histogram_raw(tag, **histogram, **at)
            writer.flush()

    def end(self, result: RunResult) -> None:
        """Write the final metrics and how the run ended, and close the file."""
        at = {"global_step": result.epochs[-1].epoch if result.epochs else 0, "walltime": result.time or None}
        with self._closing_after_an_error() as writer:
            # First, since `cut_events` takes all that follows it for the ending of the run.
            _add_session(writer, metadata.SESSION_END_INFO_TAG, session_end_info=_session_end(result))
            for name, value in result.metrics.items():
                writer.add_scalar(_tag(name), value, **at)
        self._close()

    @contextmanager
    def _closing_after_an_error(self) -> Iterator[SummaryWriter]:
        # Nobody tells a sink the end of a run once it has failed, and the writer has a thread of its own.
        assert self.writer
        try:
            yield self.writer
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        writer, self.writer, self._network = self.writer, None, None
        if writer:
            writer.close()


def cut_events(folder: str, last_step: int) -> None:
    """Drop from a run's event files what came after this step, and how the run ended; with step 0, the files."""
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        if last_step == 0:
            path.unlink()
            continue
        temporary = path.with_name(f"cut.{path.name}")  # no name that TensorBoard would read
        with temporary.open("wb") as file:
            writer = RecordWriter(file)
            for record in _kept(path, last_step):
                writer.write(record)
            writer.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _kept(path: Path, last_step: int) -> Iterator[bytes]:
    for record in RawEventFileLoader(str(path)).Load():  # which ends where a dying process broke off
        event = Event.FromString(record)
        if any(value.tag == metadata.SESSION_END_INFO_TAG for value in event.summary.value):
            return
        if event.step <= last_step:
            yield record


def _tag(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _add_images(writer: SummaryWriter, images: Tensor, start: RunStart) -> None:
    try:
        writer.add_images("images", images, walltime=start.time or None)
    except (AssertionError, TypeError, ValueError) as error:  # not N x C x H x W with one or three channels
        warnings.warn(f"{start.name}: TensorBoard shows no images: {error}", stacklevel=2)


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


def _add_session(writer: SummaryWriter, tag: str, **content: Any) -> None:
    """Write one record of the HParams page, which finds its sessions by their tags.

    Without a record of the experiment the page makes up its columns from all sessions and all
    their scalars; of several such records it would believe the first, whatever sweep that is from.
    """
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    assert writer.file_writer
    writer.file_writer.add_summary(Summary(value=[value]))


def _session_start(start: RunStart) -> plugin_data_pb2.SessionStartInfo:
    info = plugin_data_pb2.SessionStartInfo(start_time_secs=start.time)
    settings = {name: value for name, value in start.settings.items() if isinstance(value, (bool, Real, str))}
    for name, value in {**settings, **start.params}.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, Real):
            info.hparams[name].number_value = float(value)
        else:
            info.hparams[name].string_value = str(value)
    return info


def _session_end(result: RunResult) -> plugin_data_pb2.SessionEndInfo:
    status = api_pb2.STATUS_SUCCESS if result.status == "FINISHED" else api_pb2.STATUS_FAILURE
    return plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=result.time)
