"""How the progress of runs looks: lines, bars, a table in a notebook."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from sweeptrail.records import Epoch, Goal, RunResult, RunStart
from sweeptrail.results import table as results_table
from sweeptrail.results.leaderboard import seconds
from sweeptrail.results.words import DURATIONS, in_time, number

REFRESHES = 2
"""How many times a second the bars are drawn; each time takes 3 ms from a core that could train."""

SHOWN_ROWS = 50
"""How many of the last epochs the table in a notebook shows."""

SHOWN_METRICS = ("loss", "accuracy", "validation_accuracy")
"""What a line shows, if there is as much; at most as many others where there is not."""


class Lines:
    """One line for each epoch, and one for each run without epochs, or that is not FINISHED."""

    def __init__(self, console: RichConsole, total_runs: int | None, goal: Goal | None) -> None:
        self._console = console
        self._total_runs = total_runs
        self._goal = goal

    def open(self) -> None:
        """Begin to show."""

    def close(self) -> None:
        """Show nothing more."""

    def recall(self, run: int, epochs: int, has_ended: bool) -> None:
        """Count what was shown before."""

    def compare(self, result: RunResult) -> None:
        """Learn whether a run is the best so far."""

    def begin(self, start: RunStart) -> None:
        """Show that a run begins."""

    def epoch(self, start: RunStart, epoch: Epoch) -> None:
        """Show an epoch."""
        self._print(self._epoch_line(start, epoch))

    def silent(self, start: RunStart, seconds: float, usual: float) -> None:
        """Say that a run completes no epoch."""
        self._print(self._line(start, f"no epoch for {in_time(seconds)}; its epochs took {in_time(usual)}"))

    def pause(self, start: RunStart) -> None:
        """Show that a run does not go on for now."""

    def end(self, start: RunStart, result: RunResult, printed: Sequence[str]) -> None:
        """Show how a run ended, and what it printed if that was not well."""
        for warning in result.warnings:
            self._print(self._line(start, f"warning: {warning}"))
        if result.status != "FINISHED":
            lines = (f"    {line}" for line in printed)
            self._print("\n".join([self._line(start, result.status, result.reason), *lines]))
        elif result.stopped_early:
            self._print(self._line(start, f"stopped early {result.stopped_early}"))
        elif not result.epochs and (values := self._values(result.finals)):
            took = seconds(result)
            self._print(self._line(start, *values, *([] if took is None else [f"{took:.1f} s"])))

    def _epoch_line(self, start: RunStart, epoch: Epoch) -> str:
        took = [] if math.isnan(epoch.epoch_duration) else [f"{epoch.epoch_duration:.1f} s"]
        return self._line(start, f"epoch {_of(epoch.epoch, start.epochs)}", *self._values(epoch.metrics), *took)

    def _values(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the metrics that there is room for, the goal's among them."""
        first = [self._goal.metric] if self._goal and self._goal.metric not in SHOWN_METRICS else []
        others = (name for name in metrics if name not in DURATIONS)
        names = [name for name in dict.fromkeys([*first, *SHOWN_METRICS, *others]) if name in metrics]
        return [f"{name} {number(metrics[name])}" for name in names[: len(SHOWN_METRICS)]]

    def _line(self, start: RunStart, *words: str) -> str:
        return "  ".join([f"run {_of(start.index, self._total_runs)}", start.name, *words]).rstrip()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bars(Lines):
    """One bar for the sweep and one for each open run."""

    def __init__(self, console: RichConsole, total_runs: int, goal: Goal | None) -> None:
        super().__init__(console, total_runs, goal)
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
        self._epochs_planned: dict[int, int] = {}
        self._epochs_per_run = 1
        self._ended = 0
        self._best: tuple[float, str] | None = None

    def open(self) -> None:
        self._progress.start()

    def close(self) -> None:
        self._update_sweep()
        self._progress.stop()

    def recall(self, run: int, epochs: int, has_ended: bool) -> None:
        self._epochs_done[run] = epochs
        if has_ended:
            self._epochs_done[run] = self._epochs_planned[run] = epochs or 1
            self._ended += 1

    def compare(self, result: RunResult) -> None:
        goal = self._goal
        if not goal or result.status != "FINISHED" or math.isnan(value := result.finals.get(goal.metric, math.nan)):
            return
        if self._best is None or goal.rank(value) < goal.rank(self._best[0]):
            self._best = value, result.name

    def begin(self, start: RunStart) -> None:
        self._remove(start.index)  # a run whose worker died begins again
        self._epochs_planned[start.index] = self._epochs_per_run = start.epochs or 1
        if not start.epochs:  # nobody knows how much of the run an epoch is
            self._epochs_done[start.index] = 0
        done = self._epochs_done.get(start.index, 0) if start.epochs else 0
        self._runs[start.index] = self._progress.add_task(start.name, total=start.epochs, completed=done, news="")
        self._update_sweep()

    def epoch(self, start: RunStart, epoch: Epoch) -> None:
        if start.epochs:
            self._epochs_done[start.index] = epoch.epoch
        if start.index in self._runs:
            news = "  ".join(self._values(epoch.metrics))
            self._progress.update(self._runs[start.index], completed=epoch.epoch, news=news)
        self._update_sweep()

    def pause(self, start: RunStart) -> None:
        self._remove(start.index)

    def end(self, start: RunStart, result: RunResult, printed: Sequence[str]) -> None:
        super().end(start, result, printed)
        self._ended += 1
        self._epochs_done[start.index] = self._epochs_planned.setdefault(start.index, start.epochs or 1)
        self._remove(start.index)
        self._update_sweep()

    def _remove(self, index: int) -> None:
        if index in self._runs:
            self._progress.remove_task(self._runs.pop(index))

    def _update_sweep(self) -> None:
        best = f"  best {number(self._best[0])} ({self._best[1]})" if self._best else ""
        self._progress.update(
            self._sweep,
            description=f"sweep{best}",
            total=sum(self._epochs_planned.values()) + (self._total - len(self._epochs_planned)) * self._epochs_per_run,
            completed=sum(self._epochs_done.values()),
            news=f"{self._ended} of {self._total} runs",
        )


class NotebookTable(Lines):
    """A table of the last epochs, replaced in place."""

    def __init__(
        self, console: RichConsole, total_runs: int | None, goal: Goal | None, display: Callable[..., Any]
    ) -> None:
        super().__init__(console, total_runs, goal)
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


def _of(number: int, total: int | None) -> str:
    return f"{number}/{total}" if total else str(number)


def _html(rows: Iterable[results_table.Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(name, '')))}</td>" for name in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
