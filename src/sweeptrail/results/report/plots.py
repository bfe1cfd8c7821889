"""Draws the plots; the one file that knows matplotlib."""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator

from sweeptrail.results.columns import curve_metrics
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, Row, all_runs
from sweeptrail.results.report import facts, searches
from sweeptrail.results.report.theme import COLOURS, DASHES, LIGHT, PALE, STYLE, WIDTHS, pale_width
from sweeptrail.results.words import in_words
from sweeptrail.search.importance import is_logarithmic

WIDTH = 11.0
"""Inches, for a plot as wide as the page."""


Panel = Sequence[facts.Level] | facts.Slice
"""What is drawn of a hyperparameter."""


@contextmanager
def style() -> Iterator[None]:
    """Draw and save as the report does, whatever the person's own settings of matplotlib are."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks: the page has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def draw(board: Leaderboard, shares: Mapping[str, float]) -> dict[str, Figure]:
    """Return each plot for which there is something to draw, by its name; `shares` are what matters how much."""
    figures: dict[str, Figure] = {}
    if metrics := _drawable(board):
        figures["learning_curves"] = learning_curves(board, metrics)
    if _measured(board) and facts.columns_of(board):
        figures["parallel_coordinates"] = parallel_coordinates(board)
    panels: dict[str, Panel] = {**facts.slices(board), **facts.effects(board)} if board.rows else {}
    if panels:
        figures["effects"] = effects(panels, board)
    if board.rows and (tried := facts.tried(board)):
        figures["best_so_far"] = Figure((WIDTH, 3.0))
        searches.best_so_far(figures["best_so_far"], tried, board)
    if shares:
        figures["importance"] = Figure((WIDTH, 0.6 + 0.35 * len(shares)))
        searches.importance(figures["importance"], shares)
    return figures


def svg(figure: Figure) -> str:
    """Return a figure as SVG, the same bytes for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue().decode()


def png(figure: Figure) -> bytes:
    """Return a figure as PNG on white, 1,650 pixels for the width of the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor=LIGHT["surface"], metadata={"Software": None})
    return file.getvalue()


def _drawable(board: Leaderboard) -> list[str]:
    """Return the metrics of the epochs that have a value which can be drawn."""
    metrics = [epoch.metrics for run in all_runs(board) for epoch in run.result.epochs]
    return [
        name for name in curve_metrics(board) if any(facts.can_be_drawn(each.get(name, math.nan)) for each in metrics)
    ]


def learning_curves(board: Leaderboard, metrics: Sequence[str]) -> Figure:
    """Draw each metric by epoch: the best combinations in colour, the other runs thin and pale."""
    best = facts.highlighted(board)
    others = board.rows[len(best) :]
    rest = [*(run for row in others for run in row.runs), *board.unranked]
    handles = [_legend_line(position) for position in range(len(best))]
    labels = [f"{row.rank}   {facts.label(row, facts.varying(board))}" for row in best]
    if rest:
        handles.append(Line2D([], [], color=PALE, linewidth=0.8))
        count = f"{len(rest)} runs" if len(rest) > 1 else "run"
        labels.append(f"the other {count}" if best else "all runs: none is ranked")
    height = 2.9 + 0.2 * len(labels)
    figure = Figure((WIDTH, height))
    box = {"left": 0.045, "right": 0.995, "top": 1 - 0.3 / height, "bottom": (0.45 + 0.2 * len(labels)) / height}
    row = figure.subplots(1, len(metrics), squeeze=False, gridspec_kw={**box, "wspace": 0.14})[0]
    for axes, metric in zip(row, metrics, strict=True):
        axes.set_title(in_words(metric))
        _curves(axes, metric, best, rest)
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.03, 0), labelspacing=0.3, handlelength=3)
    return figure


def _legend_line(position: int) -> Line2D:
    return Line2D([], [], color=COLOURS[position], linestyle=DASHES[position], linewidth=WIDTHS[position])


def _curves(axes: Axes, metric: str, best: Sequence[Row], rest: Sequence[RankedRun]) -> None:
    # Single epochs have no line; few epochs are easier to read with their points.
    longest = max((len(run.result.epochs) for run in [run for row in best for run in row.runs] or rest), default=1)
    marker = "o" if longest <= 10 else None
    pale = facts.joined(rest, metric)
    axes.plot(
        *pale, color=PALE, linewidth=pale_width(len(rest)), alpha=0.7,
        marker="o" if longest == 1 else None, markersize=2,
    )  # fmt: skip
    drawn = [facts.joined(row.runs, metric) for row in best]
    for position, line in reversed(list(enumerate(drawn))):
        axes.plot(
            *line, color=COLOURS[position], linestyle=DASHES[position], linewidth=WIDTHS[position],
            marker=marker, markersize=3.2,
        )  # fmt: skip
    ends = [
        run.result.epochs[-1].metrics.get(metric, math.nan)
        for row in best[:1]
        for run in row.runs[:1]
        if run.result.epochs
    ]
    limits = facts.fences([value for _, values in (pale, *drawn) for value in values], kept=ends)
    if limits:
        margin = 0.05 * (limits[1] - limits[0]) or 0.01
        axes.set_ylim(limits[0] - margin, limits[1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


def parallel_coordinates(board: Leaderboard) -> Figure:
    """Draw a line for each combination through its values, to the metric that ranks."""
    names = facts.varying(board)
    figure = Figure((WIDTH, 3.8))
    axes = figure.add_axes((0.13, 0.04, 0.79, 0.84))
    axes.set(xlim=(-0.02, len(names) + 0.02), ylim=(-0.01, 1.01))
    axes.set_axis_off()
    columns = [
        _number_axis(axes, board, name, x) if facts.is_continuous(board, name) else _category_axis(axes, board, name, x)
        for x, name in enumerate(names)
    ]
    columns.append(_metric_axis(axes, board, len(names)))
    heights = list(zip(*columns, strict=True))
    coloured = sum(facts.can_be_drawn(row.mean) for row in facts.highlighted(board))
    pale = heights[coloured:]
    if pale:
        width = pale_width(len(pale))
        axes.add_patch(PathPatch(_strands(pale), fill=False, edgecolor=PALE, linewidth=width, alpha=0.7, zorder=1))
    for position, strand in reversed(list(enumerate(heights[:coloured]))):
        axes.add_patch(
            PathPatch(
                _strands([strand]), fill=False, edgecolor=COLOURS[position], linestyle=DASHES[position],
                linewidth=WIDTHS[position], zorder=2,
            )
        )  # fmt: skip
    return figure


def _measured(board: Leaderboard) -> list[Row]:
    return [row for row in board.rows if facts.can_be_drawn(row.mean)]


def _strands(heights: Sequence[Sequence[float]]) -> Curve:
    """Return smooth lines through these heights at x = 0, 1, 2, …"""
    points: list[tuple[float, float]] = []
    codes: list[Any] = []
    for strand in heights:
        points.append((0, strand[0]))
        codes.append(Curve.MOVETO)
        for x, (before, after) in enumerate(pairwise(strand)):
            points += [(x + 0.5, before), (x + 0.5, after), (x + 1, after)]
            codes += [Curve.CURVE4] * 3
    return Curve(points, codes)


def _category_axis(axes: Axes, board: Leaderboard, column: str, x: int) -> list[float]:
    """Draw an axis with the values of a hyperparameter; return where each combination crosses it.

    The combinations with the same value lie beside each other, the best on top.
    """
    rows, values = _measured(board), facts.levels(board, column)
    room, last = 1 / len(values), max(1, len(rows) - 1)
    _axis(axes, column, x)
    step = math.ceil(len(values) / 12)
    for position, value in enumerate(values):
        _axis_line(axes, x, room * (position + 0.15), room * (position + 0.85))
        if position % step == 0:
            # Between the bundles of lines, but for the first axis, which has nothing on its left.
            _tick(axes, x, room * (position + (0.9 if x else 0.5)), facts.text_of(value))
    return [
        room * (values.index(facts.value_of(row, column)) + 0.5 + 0.6 * (0.5 - order / last))
        for order, row in enumerate(rows)
    ]


def _number_axis(axes: Axes, board: Leaderboard, column: str, x: int) -> list[float]:
    """Draw an axis with the range of a hyperparameter; return where each combination crosses it."""
    scale = math.log10 if is_logarithmic(facts.levels(board, column)) else float
    values = [scale(facts.value_of(row, column)) for row in _measured(board)]
    low, high = min(values), max(values)
    size = high - low or 1.0
    _axis(axes, column, x)
    _axis_line(axes, x, 0, 1)
    for value in MaxNLocator(5, integer=scale is math.log10).tick_values(low, high):
        if low <= value <= high:
            _tick(axes, x, (value - low) / size, f"{10**value if scale is math.log10 else value:.4g}")
    return [(value - low) / size for value in values]


def _metric_axis(axes: Axes, board: Leaderboard, x: int) -> list[float]:
    """Draw the axis of the metric that ranks, its best value on top; return where each combination ends."""
    rows = _measured(board)
    low, high = facts.fences([row.mean for row in rows], kept=[rows[0].mean]) or (0.0, 1.0)
    if low == high:
        low, high = low - 0.01, high + 0.01
    worst, best = (low, high) if board.goal.greater_is_better else (high, low)
    _axis(axes, in_words(board.ranking), x)
    _axis_line(axes, x, 0, 1)
    for value in MaxNLocator(6).tick_values(low, high):
        if low <= value <= high:
            _tick(axes, x, (value - worst) / (best - worst), f"{value:.6g}")
    return [min(1.0, max(0.0, (row.mean - worst) / (best - worst))) for row in rows]


def _axis(axes: Axes, name: str, x: int) -> None:
    axes.text(x, 1.05, name, ha="center", va="bottom", fontsize=9.5)


def _axis_line(axes: Axes, x: int, low: float, high: float) -> None:
    axes.plot([x, x], [low, high], color=LIGHT["muted"], linewidth=0.8, zorder=3)


def _tick(axes: Axes, x: int, height: float, text: str) -> None:
    side, offset = ("left", 0.015) if x else ("right", -0.015)
    back = {"facecolor": LIGHT["surface"], "alpha": 0.75, "linewidth": 0, "pad": 0.5}
    look: dict[str, Any] = {"ha": side, "va": "center", "color": LIGHT["muted"], "bbox": back, "zorder": 4}
    axes.text(x + offset, height, facts.shortened(text, 20), **look)


def effects(found: Mapping[str, Panel], board: Leaderboard) -> Figure:
    """Draw the ranking metric at each value of each hyperparameter: its mean with the interval, or all of a range."""
    rows = math.ceil(len(found) / 4)
    columns = max(3, math.ceil(len(found) / rows))
    height = 2.9 * rows
    figure = Figure((WIDTH, height))
    box = {"left": 0.06, "right": 0.995, "top": 1 - 0.3 / height, "bottom": 0.4 / height}
    grid = figure.subplots(
        rows, columns, squeeze=False, sharey=True, gridspec_kw={**box, "wspace": 0.08, "hspace": 0.3}
    )
    for axes, (name, each) in zip(grid.flat, found.items(), strict=False):
        if isinstance(each, facts.Slice):
            searches.slice_of(axes, name, each)
            searches.limits(axes, each.values, kept=[board.rows[0].mean])
        else:
            _effect(axes, name, each, room=100 // columns)
    for axes in grid.flat[len(found) :]:
        axes.remove()
    grid[0, 0].set_ylabel(in_words(board.ranking))
    return figure


def _effect(axes: Axes, name: str, levels: Sequence[facts.Level], *, room: int) -> None:
    """Draw one panel, in which that many characters have room beside each other."""
    axes.set_title(name)
    positions = range(len(levels))
    for x, level in zip(positions, levels, strict=True):
        if level.interval:
            axes.plot([x, x], level.interval, color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
    axes.plot(positions, [level.mean for level in levels], color=COLOURS[0], marker="o", linewidth=0.8, markersize=5)
    texts = [facts.shortened(level.value, 18) for level in levels]
    step = math.ceil(sum(len(text) + 2 for text in texts) / room)
    axes.set_xticks(positions[::step], texts[::step])
    axes.set_xlim(-0.6, len(levels) - 0.4)
