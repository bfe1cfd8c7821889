"""What a training loop calls: counts what happens during a run, and hands the facts to the sinks."""

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.errors import Paused, StateError
from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.results import table
from sweeptrail.search.space import run_name
from sweeptrail.sink import Sink
from sweeptrail.training import artifacts
from sweeptrail.training.counts import Counts, samples_in_next_batch
from sweeptrail.training.metrics import as_numbers
from sweeptrail.training.open_run import OpenRun
from sweeptrail.training.sinks.checkpoint import Checkpoint
from sweeptrail.training.sinks.group import Sinks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.tensorboard import SummaryWriter

    from sweeptrail.training.standalone import Standalone


class RunManager:
    """Keeps the count of a training loop.

    Without an argument it tracks by itself: a folder under `runs`, a parent run on MLflow with one
    nested run for each `begin_run`, TensorBoard, and a line or a live table on the screen; `save`
    ends all that. With a list of sinks it tells those and nobody else. A task is handed one whose
    run has begun.

    >>> manager = RunManager([])
    >>> with manager.run(run, network, loader):
    ...     for epoch in manager.epochs(3, network, optimizer, loader):
    ...         for images, labels in loader:
    ...             preds = network(images)
    ...             loss = cross_entropy(preds, labels)
    ...             manager.track_loss(loss)
    ...             manager.track_num_correct(preds, labels)

    Every method raises StateError when it is called out of order.
    """

    run_id = ""
    """By what MLflow's own calls know the run of a task."""
    shared: Mapping[str, Any] = {}
    """What all runs of a task have in common, made once on each machine."""

    def __init__(self, sinks: Sequence[Sink] | None = None) -> None:
        self.run_count = 0
        self.epoch_count = 0
        self.run_params: Any = None
        self.run_data: list[table.Row] = []
        """One row for each epoch so far, the columns of the results table."""
        self.network: nn.Module | None = None
        self.loader: Any = None
        self._sinks = Sinks(sinks or [])
        self._checkpoint: Checkpoint | None = None
        self._tracks_itself = sinks is None
        self._standalone: Standalone | None = None
        self._run: OpenRun | None = None
        self._counts = Counts()
        self._is_watched = self._has_looped = self._loop_is_left = False

    def begin_run(self, run: Any, network: "nn.Module", loader: Any) -> None:
        """Begin to track a run.

        `run` is a Run or another namedtuple; `loader` any iterable of batches with `dataset` and
        `batch_size`. A run that is still open, because its loop broke off, ends as FAILED.
        """
        if self._run:
            self._finish("FAILED", "end_run() was not called before the next run began")
        if self._tracks_itself and not self._standalone:
            self._track_by_ourselves()
        params, number = run._asdict(), self.run_count + 1
        start = RunStart(number, run_name(number, params), params, time=time.time())
        self._begin(start, run, self._standalone.folder / start.name if self._standalone else None)
        self._watch(network, loader)

    def epochs(
        self, count: int, network: "nn.Module | None" = None, optimizer: Any = None, loader: Any = None, **state: Any
    ) -> Iterator[int]:
        """Begin and end each epoch, and yield its number, from 1.

        In a task, whatever is handed in and has a `state_dict`, the `generator` of the loader, and
        the generators of Python, numpy and torch are kept in a checkpoint after each epoch: a run
        that was stopped goes on after its last one. Without anything to keep it begins anew.
        Raises TypeError for state that cannot be kept, naming it.
        """
        run = self._open_run("epochs()")
        self._expect(not (run.epochs or run.is_in_epoch or self._has_looped), "epochs() comes once in a run")
        self._has_looped = True
        given = {"network": network, "optimizer": optimizer, **state}
        kept = {name: each for name, each in given.items() if each is not None}
        return self._loop(count, kept, network, loader)

    def begin_epoch(self) -> None:
        """Begin to count an epoch."""
        run = self._run
        self._expect(run and not run.is_in_epoch, "begin_epoch() comes after begin_run() or end_epoch()")
        assert run
        if not self._is_watched:
            self._watch(self.network, self.loader)
        self.epoch_count += 1
        run.begin_epoch()
        self._counts = run.counts

    def track_loss(self, loss: "Tensor | float") -> None:
        """Count the mean loss of the next batch, weighted by the samples that are in it."""
        counts = self._run_in_epoch("track_loss()").counts
        counts.add_loss(loss, samples_in_next_batch(self.loader, counts.samples))

    def track_num_correct(self, preds: "Tensor", labels: "Tensor") -> None:
        """Count the correct predictions of a batch.

        `preds` are logits (batch, classes) and `labels` (batch), both with further dimensions for
        tokens or pixels; or one logit for each label of two classes. Raises UsageError for others.
        """
        self._run_in_epoch("track_num_correct()").counts.add_predictions(preds, labels)

    @property
    def folder(self) -> Path | None:
        """The folder of the open run on disk; None where nothing is kept."""
        return self._run.folder if self._run else None

    @property
    def is_open(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._run is not None

    @property
    def epoch_loss(self) -> float:
        """The sum of the losses of all samples of this epoch so far."""
        return self._counts.total_loss

    @property
    def epoch_num_correct(self) -> int:
        """The number of correct predictions of this epoch so far."""
        return self._counts.num_correct

    def end_epoch(self, **metrics: Any) -> Epoch:
        """Complete the epoch and tell the sinks; further metrics become further columns."""
        run = self._run_in_epoch("end_epoch()")
        run.log(as_numbers(metrics))
        epoch = run.end_epoch()
        self.run_data.append(table.row(epoch, run.start.params))
        return epoch

    def log(self, /, *, step: float | None = None, **metrics: Any) -> None:
        """Log metrics: inside an epoch as part of it, outside as final values, with `step` at a step of your own.

        Raises TypeError, naming it, for what is no number.
        """
        run, values = self._open_run("log()"), as_numbers(metrics)
        if step is None:
            self._complete_a_left_epoch()
            run.log(values)
        else:
            run.measure(values, int(step), time.time())

    def log_artifact(self, path: str | Path, to: str = "") -> None:
        """Keep a file, or a folder with all that is in it, among the artifacts of the run, in their folder `to`."""
        self._keep_files("log_artifact()", lambda folder: artifacts.copy(Path(path), folder, to))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text among the artifacts of the run, as a file of this name."""
        self._keep_files("log_text()", lambda folder: artifacts.write_text(text, folder, name))

    def log_figure(self, figure: Any, name: str) -> None:
        """Keep a figure of matplotlib among the artifacts of the run, as a file of this name, `curve.png` for one."""
        self._keep_files("log_figure()", lambda folder: artifacts.write_figure(figure, folder, name))

    def log_model(self, model: "nn.Module | str | Path", example: Any = None) -> None:
        """Keep the run's model: a network, with an `example` of two samples or more, or a folder of MLflow's."""
        from sweeptrail.training import models  # it loads numpy

        run = self._open_run("log_model()")
        if run.folder:
            files = models.write(model, example, run.folder, run.epochs[-1].time if run.epochs else run.start.time)
            run.add_artifacts(files if self._standalone else ())

    def end_run(self, **metrics: Any) -> RunResult:
        """End the run as FINISHED; the metrics are those measured once, `test_accuracy` for one."""
        run, values = self._open_run("end_run()"), as_numbers(metrics)
        self._complete_a_left_epoch()
        run.finals.update(values)
        return self._finish("FINISHED", None)

    def fail_run(self, error: str, status: Status = "FAILED") -> RunResult:
        """End the run as FAILED or KILLED; `error` is the traceback, or a line that says why."""
        self._open_run("fail_run()")
        return self._finish(status, error)

    @contextmanager
    def run(self, run: Any, network: "nn.Module", loader: Any) -> Iterator["RunManager"]:
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
        self._expect(not self._run, "save() comes after end_run()")
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

    def _begin(self, start: RunStart, run: Any, folder: Path | None) -> None:
        self._run = OpenRun(start, self._sinks, folder)
        self.run_count, self.epoch_count, self.run_params = start.index, 0, run
        self.network = self.loader = None
        self._counts, self._is_watched, self._has_looped = Counts(), False, False

    def _watch(self, network: "nn.Module | None", loader: Any, known: Sequence[Epoch] = ()) -> None:
        """Tell the sinks what the loop trains; the epochs that are known are of an earlier sitting."""
        self.network, self.loader, self._is_watched = network, loader, True
        run = self._open_run("epochs()")
        try:
            run.watch(network, loader, known)
        except BaseException as error:
            if not isinstance(error, Paused):  # which comes of the epochs of before, and may go on
                self._run = None
            raise
        self.epoch_count = len(known)
        self.run_data += [table.row(epoch, run.start.params) for epoch in known]

    def _loop(self, count: int, kept: Mapping[str, Any], network: Any, loader: Any) -> Iterator[int]:
        self.network = self.network if network is None else network  # what begin_run() has been given stays
        self.loader = self.loader if loader is None else loader
        restored = self._checkpoint.restore(kept, self.loader) if self._checkpoint and kept else None
        if not self._is_watched:
            self._watch(self.network, self.loader, restored.epochs if restored else ())
        if restored:
            self._open_run("epochs()").latest.update(restored.latest)
        while not (restored and restored.is_over) and self.epoch_count < count:
            self.begin_epoch()
            try:
                yield self.epoch_count
            except GeneratorExit:
                # Left by `break`, or by an error: which of them is known when the task logs again, or ends.
                self._loop_is_left = True
                raise
            self.end_epoch()

    def _complete_a_left_epoch(self) -> None:
        """Complete the epoch in which the loop was left by `break`: it is the last."""
        if self._loop_is_left:
            self._loop_is_left = False
            if self._checkpoint:
                self._checkpoint.is_over = True
            self.end_epoch()

    def _keep_files(self, method: str, write: Any) -> None:
        run = self._open_run(method)
        if run.folder:
            run.add_artifacts(write(run.folder))

    def _finish(self, status: Status, error: str | None) -> RunResult:
        run = self._open_run("end_run()")
        self._run, self._loop_is_left = None, False
        return run.end(status, error)

    def _run_in_epoch(self, method: str) -> OpenRun:
        run = self._run
        self._expect(run and run.is_in_epoch, f"{method} comes between begin_epoch() and end_epoch()")
        assert run
        return run

    def _open_run(self, method: str) -> OpenRun:
        self._expect(self._run, f"{method} comes after begin_run()")
        assert self._run
        return self._run

    @staticmethod
    def _expect(condition: object, order: str) -> None:
        if not condition:
            raise StateError(f"called out of order: {order}")
