"""Draws what searches have tried: the best so far, where in each range the good ones lie, and what matters."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sweeptrail.results.leaderboard import Leaderboard, running_best
from sweeptrail.results.report import facts
from sweeptrail.results.report.theme import COLOURS, PALE
from sweeptrail.results.words import in_words

BESIDE = {"left": 0.075, "right": 0.995, "top": 0.96, "bottom": 0.16, "wspace": 0.05}
"""Where two plots are beside each other."""


def best_so_far(figure: Figure, tried: Sequence[facts.Tried], board: Leaderboard) -> None:
    """Draw each run by its number and by the time of its end, and the best whole one up to then."""
    axes_of_runs, axes_of_time = figure.subplots(1, 2, sharey=True, gridspec_kw=BESIDE)
    last = max(each.minutes for each in tried)
    unit, size = ("hours", 60.0) if last > 120 else ("minutes", 1.0) if last > 2 else ("seconds", 1 / 60)
    panels = (
        (axes_of_runs, "run", [float(each.number) for each in tried]),
        (axes_of_time, unit, [each.minutes / size for each in tried]),
    )
    for axes, name, moments in panels:
        order = sorted(range(len(tried)), key=lambda position: moments[position])  # called at once
        whole = [position for position in order if not tried[position].is_stopped]
        stopped = [position for position in order if tried[position].is_stopped]
        best = running_best(board.goal, [tried[position].value for position in whole])
        limits(axes, [tried[position].value for position in whole or stopped], kept=best[-1:])
        low, high = axes.get_ylim()
        for chosen, colour in ((stopped, PALE), (whole, COLOURS[0])):
            values = [min(high, max(low, tried[position].value)) for position in chosen]
            x = [moments[position] for position in chosen]
            axes.plot(x, values, "o", color=colour, markersize=3, alpha=0.7, clip_on=False)
        line = [moments[position] for position in whole]
        axes.step(line, best, where="post", color=COLOURS[0], linewidth=1.6)
        axes.set_xlabel(name)
    axes_of_runs.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes_of_runs.set_ylabel(in_words(board.ranking))


def slice_of(axes: Axes, name: str, found: facts.Slice) -> None:
    """Draw the value of the goal at each value of a hyperparameter; what was stopped early is pale."""
    axes.set_title(name)
    for points, colour in ((found.stopped, PALE), (found.whole, COLOURS[0])):
        axes.plot([x for x, _ in points], [y for _, y in points], "o", color=colour, markersize=3.5, alpha=0.8)
    if found.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def importance(figure: Figure, shares: Mapping[str, float]) -> None:
    """Draw a bar for each hyperparameter, the most important on top."""
    names = [*shares][::-1]
    axes = figure.add_axes((0.16, 0.3 / figure.get_figheight(), 0.8, 1 - 0.4 / figure.get_figheight()))
    axes.barh([facts.shortened(name, 24) for name in names], [shares[name] for name in names], color=COLOURS[0])
    for position, name in enumerate(names):
        axes.text(shares[name], position, f" {shares[name]:.0%}", va="center")
    axes.set_xlim(0, max(1e-9, *shares.values()) * 1.12)
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)


def limits(axes: Axes, values: Sequence[float], *, kept: Sequence[float]) -> None:
    """Leave what is far out beyond the edge, but for what is kept."""
    if (found := facts.fences(values, kept=kept)) is not None:
        margin = 0.05 * (found[1] - found[0]) or 0.01
        axes.set_ylim(found[0] - margin, found[1] + margin)
