"""Progress for people: bars in a terminal, a table in a notebook, plain lines anywhere else."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from html import escape
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.results import table as results_table
from sweeptrail.results.leaderboard import Leaderboard, curve_metrics, final_names, in_words
from sweeptrail.sink import Sink

REFRESHES = 2
"""How many times a second the bars are drawn; each time takes 3 ms from a core that could train."""

SHOWN_ROWS = 50
"""How many of the last epochs the table in a notebook shows."""

SHOWN_METRICS = ("loss", "accuracy", "validation_accuracy")


class Console(Sink):
    """Shows the runs of a sweep, several at a time, or those of a RunManager.

    It may be told by several threads, in any order, and twice: an epoch is shown once, be it by
    itself or with the result of its run.
    """

    def __init__(self, total_runs: int | None = None, file: TextIO | None = None) -> None:
        self._view = _view(total_runs, file or sys.stdout)
        self._starts: dict[int, RunStart] = {}
        self._shown: dict[int, int] = {}
        self._ended: set[int] = set()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._view.open()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._view.close()

    def recall(self, run: int, epochs: int, *, has_ended: bool) -> None:
        """Count what was shown of a run when the sweep was carried out up to here."""
        self._shown[run] = epochs
        self._view.recall(run, epochs, has_ended)

    def begin(self, start: RunStart) -> None:
        """Show that a run begins, unless it has ended already."""
        with self._lock:
            self._starts[start.index] = start
            if start.index not in self._ended:
                self._view.begin(start)

    def epoch(self, epoch: Epoch) -> None:
        """Show an epoch, unless it was shown before."""
        with self._lock:
            if epoch.epoch > self._shown.get(epoch.run, 0):
                self._shown[epoch.run] = epoch.epoch
                self._view.epoch(self._starts[epoch.run], epoch)

    def silent(self, run: int, seconds: float, usual: float) -> None:
        """Say that a run that has begun completes no epoch for longer than it usually does."""
        with self._lock:
            self._view.silent(self._starts[run], seconds, usual)

    def end(self, result: RunResult, printed: Sequence[str] = ()) -> None:
        """Show the epochs of the run that were not shown, and if it is not FINISHED, the reason and what it printed."""
        with self._lock:
            if result.index not in self._starts:
                self.begin(RunStart(result.index, result.name, result.params))
            for epoch in result.epochs:
                self.epoch(epoch)
            self._ended.add(result.index)
            self._view.end(self._starts[result.index], result, printed)


class Lines:
    """One line for each epoch, and one for each run that is not FINISHED."""

    def __init__(self, console: RichConsole, total_runs: int | None) -> None:
        self._console = console
        self._total_runs = total_runs

    def open(self) -> None:
        """Begin to show."""

    def close(self) -> None:
        """Show nothing more."""

    def recall(self, run: int, epochs: int, has_ended: bool) -> None:
        """Count what was shown before."""

    def begin(self, start: RunStart) -> None:
        """Show that a run begins."""

    def epoch(self, start: RunStart, epoch: Epoch) -> None:
        """Show an epoch."""
        self._print(self._epoch_line(start, epoch))

    def silent(self, start: RunStart, seconds: float, usual: float) -> None:
        """Say that a run completes no epoch."""
        self._print(self._line(start, f"no epoch for {_duration(seconds)}; its epochs took {_duration(usual)}"))

    def end(self, start: RunStart, result: RunResult, printed: Sequence[str]) -> None:
        """Show how a run ended."""
        if result.status != "FINISHED":
            lines = (f"    {line}" for line in printed)
            self._print("\n".join([self._line(start, result.status, result.reason), *lines]))

    def _epoch_line(self, start: RunStart, epoch: Epoch) -> str:
        metrics = [f"{name} {epoch.metrics[name]:.4f}" for name in SHOWN_METRICS if name in epoch.metrics]
        return self._line(start, f"epoch {_of(epoch.epoch, start.epochs)}", *metrics, f"{epoch.epoch_duration:.1f} s")

    def _line(self, start: RunStart, *words: str) -> str:
        return "  ".join([f"run {_of(start.index, self._total_runs)}", start.name, *words]).rstrip()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bars(Lines):
    """One bar for the sweep and one for each open run."""

    def __init__(self, console: RichConsole, total_runs: int) -> None:
        super().__init__(console, total_runs)
        self._total = total_runs
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=4, no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            MofNCompleteColumn(),
            TextColumn("{task.fields[news]}", markup=False, table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=REFRESHES,
            speed_estimate_period=24 * 3600,  # an epoch may well take longer than the 30 s that rich looks back
            expand=True,
        )
        self._sweep = self._progress.add_task("sweep", total=total_runs, news="")
        self._runs: dict[int, TaskID] = {}
        self._epochs_done: dict[int, int] = {}
        self._epochs_per_run = 1
        self._ended = 0

    def open(self) -> None:
        self._progress.start()

    def close(self) -> None:
        self._update_sweep()
        self._progress.stop()

    def recall(self, run: int, epochs: int, has_ended: bool) -> None:
        self._epochs_done[run] = epochs
        self._ended += has_ended

    def begin(self, start: RunStart) -> None:
        self._remove(start.index)  # a run whose worker died begins again
        self._epochs_per_run = start.epochs or self._epochs_per_run
        self._runs[start.index] = self._progress.add_task(start.name, total=start.epochs, news="")
        self._update_sweep()

    def epoch(self, start: RunStart, epoch: Epoch) -> None:
        self._epochs_done[start.index] = epoch.epoch
        if start.index in self._runs:
            news = "  ".join(f"{name} {epoch.metrics[name]:.4f}" for name in SHOWN_METRICS if name in epoch.metrics)
            self._progress.update(self._runs[start.index], completed=epoch.epoch, news=news)
        self._update_sweep()

    def end(self, start: RunStart, result: RunResult, printed: Sequence[str]) -> None:
        super().end(start, result, printed)
        self._ended += 1
        self._epochs_done[start.index] = self._epochs_per_run
        self._remove(start.index)
        self._update_sweep()

    def _remove(self, index: int) -> None:
        if index in self._runs:
            self._progress.remove_task(self._runs.pop(index))

    def _update_sweep(self) -> None:
        self._progress.update(
            self._sweep,
            total=self._total * self._epochs_per_run,
            completed=sum(self._epochs_done.values()),
            news=f"{self._ended} of {self._total} runs",
        )


class NotebookTable(Lines):
    """A table of the last epochs, replaced in place."""

    def __init__(self, console: RichConsole, total_runs: int | None, display: Callable[..., Any]) -> None:
        super().__init__(console, total_runs)
        self._display = display
        self._handle: Any = None
        self._rows: deque[results_table.Row] = deque(maxlen=SHOWN_ROWS)

    def epoch(self, start: RunStart, epoch: Epoch) -> None:
        self._rows.append(results_table.row(epoch, start.params))
        data = {"text/html": _html(self._rows), "text/plain": self._epoch_line(start, epoch)}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _view(total_runs: int | None, file: TextIO) -> Lines:
    console = RichConsole(file=file, force_jupyter=False)
    ipython = sys.modules.get("IPython")  # whoever has not loaded it is in no notebook
    shell = type(ipython.get_ipython()) if ipython else object
    if ipython and any(cls.__name__ == "ZMQInteractiveShell" for cls in shell.__mro__):
        return NotebookTable(console, total_runs, ipython.display.display)
    # FORCE_COLOR makes rich believe in a terminal where there is a file.
    if total_runs and file.isatty() and not console.is_dumb_terminal:
        return Bars(console, total_runs)
    return Lines(console, total_runs)


def _of(number: int, total: int | None) -> str:
    return f"{number}/{total}" if total else str(number)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.2g} min" if minutes < 60 else f"{minutes / 60:.1f} h"


def _html(rows: Iterable[results_table.Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(name, '')))}</td>" for name in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def summary(board: Leaderboard) -> RenderableType:
    """Return a table of the runs in the order of the leaderboard, and why others did not finish."""
    ranked = [run.result for row in board.rows for run in row.runs]
    others = sorted((run.result for run in board.unranked), key=lambda result: result.index)
    metrics = [*curve_metrics(board), *final_names(board)]
    table = _empty_table(in_words(board.ranking), metrics)
    for rank, result in enumerate([*ranked, *others], start=1):
        finals = result.finals
        table.add_row(
            str(rank) if rank <= len(ranked) else "",
            Text(result.name.replace(",", " ")),  # a narrow terminal breaks the line between two hyperparameters
            *(f"{finals[name]:.4f}" if name in finals else "" for name in metrics),
            f"{result.epochs[-1].run_duration:.1f}" if result.epochs else "",
            result.status,
        )
    return Group(table, *(Text(f"{result.name}  {result.status}  {result.reason}".rstrip()) for result in others))


def _empty_table(best: str, metrics: Sequence[str]) -> Table:
    table = Table(title=f"Best first, by {best}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("rank", justify="right", width=4)
    table.add_column("run", overflow="fold")
    for name in (*metrics, "seconds"):
        words = name.split("_")
        table.add_column(" ".join(words), justify="right", width=max(6, *map(len, words)))
    table.add_column("status", width=len("FINISHED"))
    return table


def show(renderable: RenderableType) -> None:
    """Print it, in plain letters and wide where there is no terminal."""
    RichConsole(highlight=False, width=None if sys.stdout.isatty() else 160).print(renderable)
