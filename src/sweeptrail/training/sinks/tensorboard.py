"""TensorBoard's event files: images, graph, scalars, histograms and the hyperparameters of each run."""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from time import time as now
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter

from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.sink import Sink

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Sink):
    """Writes each run's event file into a folder named after the run, below `parent`.

    Every value has an explicit step: 0 for what is known at the beginning, the epoch's number from
    then on. torch is not loaded for a task that has not done so.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._summary_writer: SummaryWriter | None = None
        self._event_writer: EventFileWriter | None = None
        self._network: nn.Module | None = None

    @property
    def writer(self) -> "SummaryWriter | None":
        """The SummaryWriter of the open run; None between runs, and where nothing has loaded torch."""
        if self._event_writer and not self._summary_writer and "torch" in sys.modules:
            self._open()
        return self._summary_writer

    def begin(self, start: RunStart) -> None:
        """Open the event file."""
        self._start, self._network, self._known_epochs, self._is_settled = start, None, 0, False
        self._folder = os.path.join(self._parent, start.name)
        self._before = event_files(self._folder)
        self._open()

    def watch(self, network: "nn.Module | None", loader: Any, *, known_epochs: int) -> None:
        """Write the images, the graph and the hyperparameters, unless an earlier sitting has done so."""
        self._network, self._known_epochs = network, known_epochs
        with self._closing_after_an_error():
            self._settle()
            if not known_epochs and (writer := self.writer):
                from sweeptrail.training.sinks.network_events import add_network

                add_network(writer, network, loader, self._start)
            self._flush()

    def epoch(self, epoch: Epoch) -> None:
        """Write the scalars and the histograms; they are on disk when this returns."""
        if epoch.epoch <= self._known_epochs:
            return
        values = {name: value for name, value in epoch.metrics.items() if not name.endswith("_duration")}
        with self._closing_after_an_error():
            self._add_scalars(values, epoch.epoch, epoch.time)
            if self._network is not None and (writer := self.writer):
                from sweeptrail.training.sinks.network_events import histograms

                for tag, histogram in histograms(self._network, np.array(writer.default_bins)):
                    writer.add_histogram_raw(tag, **histogram, global_step=epoch.epoch, walltime=epoch.time or None)
            # By this `cut_events` knows what had been written when the epoch was over; readers pass over it.
            self._add(Event(step=epoch.epoch, session_log=SessionLog(status=SessionLog.CHECKPOINT)), epoch.time)
            self._flush()

    def measure(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Write scalars at a step of the task's own."""
        with self._closing_after_an_error():
            self._add_scalars(values, step, time)

    def end(self, result: RunResult) -> None:
        """Write the final metrics and how the run ended, and close the file."""
        step = result.epochs[-1].epoch if result.epochs else 0
        with self._closing_after_an_error():
            self._settle()
            # First, since `cut_events` takes all that follows it for the ending of the run.
            self._add_session(metadata.SESSION_END_INFO_TAG, session_end_info=_session_end(result))
            self._add_scalars(result.metrics, step, result.time)
        self._close()

    def _settle(self) -> None:
        """Drop from the files of earlier sittings what the run does anew."""
        if self._is_settled:
            return
        self._is_settled = True
        cut_events(self._before, self._known_epochs)
        if not self._known_epochs:
            self._add_session(metadata.SESSION_START_INFO_TAG, session_start_info=_session_start(self._start))

    def _open(self) -> None:
        if self._event_writer and not self._summary_writer:
            self._event_writer.close()
        if "torch" in sys.modules:
            from torch.utils.tensorboard import SummaryWriter

            self._summary_writer = SummaryWriter(self._folder)
            assert self._summary_writer.file_writer
            self._event_writer = self._summary_writer.file_writer.event_writer
        else:
            self._event_writer = EventFileWriter(self._folder)

    def _add_scalars(self, values: Mapping[str, float], step: int, time: float) -> None:
        if values:
            found = [Summary.Value(tag=_tag(name), simple_value=value) for name, value in values.items()]
            self._add(Event(step=step, summary=Summary(value=found)), time)

    def _add_session(self, tag: str, **content: Any) -> None:
        """Write one record of the HParams page, which finds its sessions by their tags.

        Without a record of the experiment the page makes up its columns from all sessions and all
        their scalars; of several such records it would believe the first, whatever sweep that is from.
        """
        about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
        value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
        self._add(Event(summary=Summary(value=[value])), self._start.time)

    def _add(self, event: Event, time: float) -> None:
        assert self._event_writer
        event.wall_time = time or now()
        self._event_writer.add_event(event)

    def _flush(self) -> None:
        assert self._event_writer
        self._event_writer.flush()

    @contextmanager
    def _closing_after_an_error(self) -> Iterator[None]:
        # Nobody tells a sink the end of a run once it has failed, and the writer has a thread of its own.
        try:
            yield
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        writer = self._summary_writer or self._event_writer
        self._summary_writer = self._event_writer = self._network = None
        if writer:
            writer.close()


def event_files(folder: str) -> list[Path]:
    """Return the event files of a run, in the order in which they were begun.

    Their names have seconds, in which a run can pause and go on in another process: the first record tells more.
    """
    return sorted(Path(folder).glob("events.out.tfevents.*"), key=lambda path: (path.name.split(".")[3], _began(path)))


def _began(path: Path) -> float:
    """Return the time of a file's first record; one without any is taken for the last of its second."""
    first = next(iter(RawEventFileLoader(str(path)).Load()), None)
    return math.inf if first is None else Event.FromString(first).wall_time


def cut_events(files: Sequence[Path], last_epoch: int) -> None:
    """Drop from a run's event files what came after this epoch, and how the run ended; with 0, the files."""
    is_over = False
    for path in files:
        if last_epoch == 0 or is_over:
            path.unlink()
            continue
        temporary = path.with_name(f"cut.{path.name}")  # no name that TensorBoard would read
        with temporary.open("wb") as file:
            writer = RecordWriter(file)
            kept, is_over = _kept(path, last_epoch)
            for record in kept:
                writer.write(record)
            writer.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _kept(path: Path, last_epoch: int) -> tuple[list[bytes], bool]:
    """Return the records to keep, and whether the mark of the epoch was among them."""
    records: list[bytes] = []
    early: list[bytes] = []
    marked = 0
    for record in RawEventFileLoader(str(path)).Load():  # which ends where a dying process broke off
        event = Event.FromString(record)
        if any(value.tag == metadata.SESSION_END_INFO_TAG for value in event.summary.value):
            break
        records.append(record)
        if event.step <= last_epoch:
            early.append(record)
            if event.session_log.status == SessionLog.CHECKPOINT:
                marked = len(records)
                if event.step == last_epoch:
                    return records, True
    return (records[:marked] if marked else early), False  # version 0.1 wrote no marks


def _tag(name: str) -> str:
    return name.replace("_", " ").capitalize()


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
    status = api_pb2.STATUS_SUCCESS if result.status in ("FINISHED", "PAUSED") else api_pb2.STATUS_FAILURE
    return plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=result.time)
