"""Counts what happens during a run, and hands the facts to the sinks."""

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sweeptrail.errors import StateError
from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.results import table
from sweeptrail.search.space import run_name
from sweeptrail.training.sinks import Sink
from sweeptrail.training.sinks.group import Sinks

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from sweeptrail.training.standalone import Standalone


class RunManager:
    """Keeps the count of a training loop.

    Without an argument it tracks by itself: a folder under `runs`, a parent run on MLflow with one
    nested run for each `begin_run`, TensorBoard, and a line or a live table on the screen; `save`
    ends all that. With a list of sinks it tells those and nobody else.

    >>> manager = RunManager([])
    >>> with manager.run(run, network, loader):
    ...     manager.begin_epoch()
    ...     for images, labels in loader:
    ...         preds = network(images)
    ...         loss = cross_entropy(preds, labels)
    ...         manager.track_loss(loss)
    ...         manager.track_num_correct(preds, labels)
    ...     manager.end_epoch()

    Every method raises StateError when it is called out of order.
    """

    def __init__(self, sinks: Sequence[Sink] | None = None) -> None:
        self.run_count = 0
        self.epoch_count = 0
        self.run_params: Any = None
        self.run_data: list[table.Row] = []
        """One row for each epoch so far, the columns of the results table."""
        self.network: nn.Module | None = None
        self.loader: Any = None
        self._sinks = Sinks(sinks or [])
        self._tracks_itself = sinks is None
        self._standalone: Standalone | None = None
        self._start: RunStart | None = None
        self._epochs: list[Epoch] = []
        self._in_epoch = False
        self._forget_batches()

    def begin_run(self, run: Any, network: nn.Module, loader: Any, *, start: RunStart | None = None) -> None:
        """Begin to track a run.

        `run` is a Run or another namedtuple; `loader` any iterable of batches with `dataset` and
        `batch_size`. `start` says what is known beforehand of a run that is part of a sweep. A run
        that is still open, because its loop broke off, ends as FAILED.
        """
        if self._start:
            self._finish_run("FAILED", {}, "end_run() was not called before the next run began")
        if self._tracks_itself and not self._standalone:
            self._track_by_ourselves()
        self.run_count += 1
        self.epoch_count = 0
        self.run_params, self.network, self.loader = run, network, loader
        params = run._asdict()
        self._start = start or RunStart(self.run_count, run_name(self.run_count, params), params, time=time.time())
        self._epochs = []
        self._run_began = time.perf_counter()
        try:
            self._sinks.begin(self._start, network, loader)
        except BaseException:
            self._start = None
            raise

    def resume(self, epochs: Sequence[Epoch]) -> None:
        """Take over the epochs that the run had completed before it was interrupted; the sinks are told again."""
        self._expect(self._start and not self._epochs, "resume() comes right after begin_run()")
        for epoch in epochs:
            self._keep(epoch)
        self.epoch_count = epochs[-1].epoch if epochs else 0
        self._run_began -= epochs[-1].run_duration if epochs else 0

    def begin_epoch(self) -> None:
        """Begin to count an epoch."""
        self._expect(self._start and not self._in_epoch, "begin_epoch() comes after begin_run() or end_epoch()")
        self.epoch_count += 1
        self._in_epoch = True
        self._forget_batches()
        self._epoch_began = time.perf_counter()

    def track_loss(self, loss: Tensor) -> None:
        """Count the mean loss of the next batch, weighted by the samples that are in it."""
        self._expect(self._in_epoch, "track_loss() comes between begin_epoch() and end_epoch()")
        samples = _samples_in_next_batch(self.loader, self._samples)
        self._samples += samples
        # Kept as it is: reading it here would wait for the device at every batch.
        self._losses.append((loss.detach(), samples))

    def track_num_correct(self, preds: Tensor, labels: Tensor) -> None:
        """Count the correct predictions of a batch: `preds` (batch, classes), `labels` (batch)."""
        self._expect(self._in_epoch, "track_num_correct() comes between begin_epoch() and end_epoch()")
        with torch.no_grad():
            self._corrects.append(preds.argmax(dim=1).eq(labels).sum())
        self._predictions += len(labels)

    @property
    def is_open(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._start is not None

    @property
    def epoch_loss(self) -> float:
        """The sum of the losses of all samples of this epoch so far."""
        if not self._losses:
            return 0.0
        losses = torch.stack([loss for loss, _ in self._losses]).double()
        return float(losses @ losses.new_tensor([samples for _, samples in self._losses]))

    @property
    def epoch_num_correct(self) -> int:
        """The number of correct predictions of this epoch so far."""
        return int(torch.stack(self._corrects).sum()) if self._corrects else 0

    def end_epoch(self, **metrics: float) -> Epoch:
        """Complete the epoch and tell the sinks; further metrics become further columns."""
        self._expect(self._in_epoch, "end_epoch() comes after begin_epoch()")
        assert self._start
        now = time.perf_counter()
        epoch = Epoch(
            run=self._start.index,
            epoch=self.epoch_count,
            loss=self.epoch_loss / max(self._samples, 1),
            accuracy=self.epoch_num_correct / max(self._predictions, 1),
            epoch_duration=now - self._epoch_began,
            run_duration=now - self._run_began,
            extra=metrics,
            time=time.time(),
        )
        self._in_epoch = False
        self._keep(epoch)
        return epoch

    def end_run(self, **metrics: float) -> RunResult:
        """End the run as FINISHED; the metrics are those measured once, `test_accuracy` for one."""
        self._expect(self._start, "end_run() comes after begin_run()")
        return self._finish_run("FINISHED", metrics, None)

    def fail_run(self, error: str, status: Status = "FAILED") -> RunResult:
        """End the run as FAILED or KILLED; `error` is the traceback, or a line that says why."""
        self._expect(self._start, "fail_run() comes after begin_run()")
        return self._finish_run(status, {}, error)

    @contextmanager
    def run(self, run: Any, network: nn.Module, loader: Any) -> Iterator["RunManager"]:
        """Begin a run and end it, also when the loop raises: then as FAILED, or as KILLED by Ctrl-C."""
        self.begin_run(run, network, loader)
        try:
            yield self
        except BaseException as error:
            self.fail_run(traceback.format_exc(), "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        self.end_run()

    def save(self, file_name: str) -> None:
        """Write FILE_NAME.csv and FILE_NAME.json, log both on the parent run and close it."""
        self._expect(not self._start, "save() comes after end_run()")
        files = table.save(self.run_data, Path(file_name))
        if self._standalone:
            self._standalone.finish(files)
            self._standalone = None

    @property
    def tb(self) -> "SummaryWriter":
        """The SummaryWriter of the open run."""
        writer = self._sinks.writer
        self._expect(writer, "tb is there between begin_run() and end_run(), when TensorBoard is among the sinks")
        return writer  # type: ignore[no-any-return]  # _expect has seen that it is there

    def _track_by_ourselves(self) -> None:
        from sweeptrail.training.standalone import Standalone  # only here: whoever brings sinks needs no courier

        self._standalone = Standalone(self)
        self._sinks = Sinks(self._standalone.sinks)

    def _keep(self, epoch: Epoch) -> None:
        assert self._start
        self._epochs.append(epoch)
        self.run_data.append(table.row(epoch, self._start.params))
        self._sinks.epoch(epoch)

    def _finish_run(self, status: Status, metrics: Mapping[str, float], error: str | None) -> RunResult:
        assert self._start
        start, self._start, self._in_epoch = self._start, None, False
        result = RunResult(
            index=start.index,
            name=start.name,
            params=start.params,
            status=status,
            epochs=tuple(self._epochs),
            metrics=metrics,
            error=error,
            time=time.time(),
        )
        return self._sinks.end(result)

    def _forget_batches(self) -> None:
        self._losses: list[tuple[Tensor, int]] = []
        self._corrects: list[Tensor] = []
        self._samples = 0
        self._predictions = 0

    @staticmethod
    def _expect(condition: object, order: str) -> None:
        if not condition:
            raise StateError(f"called out of order: {order}")


def _samples_in_next_batch(loader: Any, seen: int) -> int:
    """Only the last batch of an epoch is shorter than the batch size."""
    size = loader.batch_size or 1  # a DataLoader with batch_size=None yields single samples
    try:
        remaining = len(loader.dataset) - seen
    except TypeError:  # an iterable data set has no length
        return int(size)
    return min(size, remaining) if remaining > 0 else int(size)
