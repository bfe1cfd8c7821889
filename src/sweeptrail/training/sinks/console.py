"""Progress for people: bars in a terminal, a table in a notebook, plain lines anywhere else."""

import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweeptrail.records import Epoch, Goal, RunResult, RunStart
from sweeptrail.results.columns import curve_metrics, final_names
from sweeptrail.results.leaderboard import Leaderboard, all_runs, seconds
from sweeptrail.results.words import in_words, number, saved, unranked, why_no_champion, why_unranked
from sweeptrail.sink import Sink
from sweeptrail.training.sinks.views import Bars, Lines, NotebookTable


class Console(Sink):
    """Shows the runs of a sweep, several at a time, or those of a RunManager.

    It may be told by several threads, in any order, and twice: an epoch is shown once, be it by
    itself or with the result of its run.
    """

    def __init__(self, total_runs: int | None = None, file: TextIO | None = None, goal: Goal | None = None) -> None:
        """`goal` says which metric is shown in any case, and which run is the best so far."""
        self._view = _view(total_runs, file or sys.stdout, goal)
        self._starts: dict[int, RunStart] = {}
        self._shown: dict[int, int] = {}
        self._ended: set[int] = set()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._view.open()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._view.close()

    def recall(self, run: int, epochs: int, *, result: RunResult | None) -> None:
        """Count what was shown of a run in an earlier sitting, and what it reached if it was over by then."""
        self._shown[run] = epochs
        self._view.recall(run, epochs, result is not None)
        if result:
            self._view.compare(result)

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
        """Show the epochs of the run that were not shown, its warnings, and why it failed with what it printed.

        One that has paused may go on.
        """
        with self._lock:
            if result.index not in self._starts:
                self.begin(RunStart(result.index, result.name, result.params))
            for epoch in result.epochs:
                self.epoch(epoch)
            if result.status == "PAUSED":
                self._view.pause(self._starts[result.index])
                return
            self._ended.add(result.index)
            self._view.compare(result)
            self._view.end(self._starts[result.index], result, printed)


def for_sweep(total_runs: int | None, goal: Goal | None) -> Console:
    """Return a console for a sweep of so many runs, None where only time ends them."""
    return Console(total_runs, goal=goal)


def _view(total_runs: int | None, file: TextIO, goal: Goal | None) -> Lines:
    console = RichConsole(file=file, force_jupyter=False)
    ipython = sys.modules.get("IPython")  # whoever has not loaded it is in no notebook
    shell = type(ipython.get_ipython()) if ipython else object
    if ipython and any(cls.__name__ == "ZMQInteractiveShell" for cls in shell.__mro__):
        return NotebookTable(console, total_runs, goal, ipython.display.display)
    # FORCE_COLOR makes rich believe in a terminal where there is a file.
    if total_runs and file.isatty() and not console.is_dumb_terminal:
        return Bars(console, total_runs, goal)
    return Lines(console, total_runs, goal)


def summary(board: Leaderboard) -> RenderableType:
    """Return a table of the runs in the order of the leaderboard, and why others are not ranked."""
    ranked = [run.result for row in board.rows for run in row.runs]
    others = sorted(board.unranked, key=lambda run: run.result.index)
    results = [*ranked, *(run.result for run in others)]
    shown = [*curve_metrics(board), *final_names(board)]
    metrics = list(dict.fromkeys([*([board.ranking] if board.rows and board.ranking not in shown else []), *shown]))
    columns = [*metrics, *(["seconds"] if any(seconds(result) is not None for result in results) else [])]
    cells = [_cells(result, metrics) for result in results]
    table = _empty_table(board, columns, [max(map(len, column)) for column in zip(*cells, strict=True)])
    for rank, (result, values) in enumerate(zip(results, cells, strict=True), start=1):
        table.add_row(
            *([str(rank) if rank <= len(ranked) else ""] if ranked else []),
            Text(result.name.replace(",", " ")),  # a narrow terminal breaks the line between two hyperparameters
            *values[: len(columns)],
            "STOPPED" if result.stopped_early else result.status,
        )
    return Group(table, *map(Text, _remarks(board)))


def _cells(result: RunResult, metrics: Iterable[str]) -> list[str]:
    finals, took = result.finals, seconds(result)
    return [
        *(number(finals[name]) if name in finals else "" for name in metrics),
        "" if took is None else f"{took:.1f}",
    ]


def _remarks(board: Leaderboard) -> Iterator[str]:
    """Yield what is to be said below the table."""
    if why := why_no_champion(board):
        yield why
    for run in sorted(unranked(board), key=lambda run: run.result.index):
        yield f"{run.result.name}  {run.result.status}  {why_unranked(run, board)}".rstrip()
    if words := saved(board):
        yield words
    warned = [len(run.result.warnings) for run in all_runs(board) if run.result.warnings]
    if warned:
        yield f"{sum(warned)} {_plural('warning', sum(warned))} in {len(warned)} {_plural('run', len(warned))}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _empty_table(board: Leaderboard, columns: Sequence[str], widths: Sequence[int]) -> Table:
    title = f"Best first, by {in_words(board.ranking)}" if board.rows else None
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    if board.rows:
        table.add_column("rank", justify="right", width=4)
    table.add_column("run", overflow="fold")
    for name, width in zip(columns, widths, strict=False):
        words = name.split("_")
        table.add_column(" ".join(words), justify="right", width=max(6, width, *map(len, words)))
    table.add_column("status", width=len("FINISHED"))
    return table


def show(renderable: RenderableType) -> None:
    """Print it, in plain letters and wide where there is no terminal."""
    RichConsole(highlight=False, width=None if sys.stdout.isatty() else 160).print(renderable)
