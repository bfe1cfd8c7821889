"""Puts words, tables and plots together to one HTML document."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from sweeptrail.results.columns import curve_metrics, final_names
from sweeptrail.results.leaderboard import Leaderboard, all_runs, best_of, final_metrics
from sweeptrail.results.report import facts, tables
from sweeptrail.results.report.section import Section
from sweeptrail.results.report.theme import DARK, LIGHT, inline_svg
from sweeptrail.results.words import as_sentence, epochs_spent, in_words, saved, verdict, why_no_champion
from sweeptrail.search.importance import MOST

TEMPLATE = "page.html.jinja"

SHOWN = 25
"""How many combinations the ranked table shows before it has to be unfolded."""


@dataclass(frozen=True)
class Plot:
    """A plot in the page."""

    svg: Markup
    numbers: tables.Table | None
    """None where they are in the ranked table."""


def render(
    board: Leaderboard,
    drawings: Mapping[str, str],
    shares: Mapping[str, float],
    *,
    title: str,
    sections: Sequence[Section],
) -> str:
    """Return the document; `drawings` are matplotlib's SVG by the name of the plot, `shares` as for drawing."""
    alternatives = _alternatives(board, shares)
    numbers = {"learning_curves": tables.curves(board)} if board.rows else {}
    if board.rows and facts.effects(board):
        numbers["effects"] = tables.effects(board)
    own = {name: _plot(name, svg, alternatives[name], numbers.get(name)) for name, svg in drawings.items()}
    given = {each.name: _plot(each.name, each.svg, each.alternative, each.table) for each in sections if each.svg}
    text = _template().render(
        title=facts.text_of(title),
        board=board,
        champion=facts.text_of(board.champion.result.name) if board.champion else "",
        why_no_champion=facts.text_of(as_sentence(why_no_champion(board))),
        figures=_key_figures(board),
        verdict=facts.text_of(verdict(board)),
        saved=saved(board),
        ranges=bool(facts.slices(board)),
        lacks_optuna=facts.lacks_optuna(board),
        sampled=MOST if len(facts.whole(board)) > MOST else 0,
        metric=in_words(board.ranking),
        basis=_basis(board),
        seeds=tables.has_seeds(board),
        ranking=tables.ranking(board),
        shown=SHOWN,
        unfinished=tables.unfinished(board),
        plots={**own, **given},
        sections=sections,
        chapters={**_chapters(board, drawings), **{each.name: each.title for each in sections}},
        highlights=facts.HIGHLIGHTS,
        light=LIGHT,
        dark=DARK,
    )
    return re.sub(r"\n\s+", "\n", text)


def _plot(name: str, svg: str, alternative: str, numbers: tables.Table | None) -> Plot:
    return Plot(Markup(inline_svg(svg, name=name, alternative=alternative)), numbers)


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        TEMPLATE
    )


def _chapters(board: Leaderboard, drawings: Mapping[str, str]) -> dict[str, str]:
    """Return the headings of what the runs have something for, by their ids; all while none has finished."""
    is_open = not any(run.result.status == "FINISHED" for run in all_runs(board))
    found = {
        "ranking": ("Ranking", True),
        "curves": ("Learning curves", "learning_curves" in drawings),
        "coordinates": ("Parallel coordinates", "parallel_coordinates" in drawings),
        "effects": ("Effects", "effects" in drawings or (len(board.rows) == 1 and bool(facts.columns_of(board)))),
        "importance": ("Importance", "importance" in drawings),
        "best": ("Best so far", "best_so_far" in drawings),
    }
    later = ("importance", "best")
    return {name: title for name, (title, is_there) in found.items() if is_there or (is_open and name not in later)}


def _basis(board: Leaderboard) -> str:
    """Return by what the combinations are ranked."""
    metric = in_words(board.ranking)
    if not board.rows:
        return ""
    result = board.rows[0].runs[0].result
    is_last = result.epochs and board.ranking in result.epochs[-1].metrics and board.ranking not in result.metrics
    seeds = ", the mean of the seeds" if tables.has_seeds(board) else ""
    order = "" if board.goal.greater_is_better else ", the lowest first"
    basis = f"By {metric}{' in the last epoch' if is_last else ''}{seeds}{order}."
    if board.ranking == "accuracy":
        return f"{basis} That is the accuracy on the training data, since none was held out."
    return basis


def _key_figures(board: Leaderboard) -> dict[str, str]:
    """Return the few numbers that people look for first."""
    runs = all_runs(board)
    finished = sum(run.result.status == "FINISHED" for run in runs)
    combinations = {"combinations": str(len(board.rows))} if board.rows or not finished else {}
    epochs = epochs_spent(board)
    counts = {
        **combinations,
        "runs finished": f"{finished} of {len(runs)}",
        **({"epochs": f"{epochs[0]} of {epochs[1]}"} if epochs else {}),
    }
    if not board.champion:
        return counts
    metrics = final_metrics(board.champion)
    return {
        in_words(board.ranking): tables.number(metrics[board.ranking]),
        **{in_words(name): tables.number(metrics.get(name)) for name in final_names(board)},
        **counts,
    }


def _alternatives(board: Leaderboard, shares: Mapping[str, float]) -> dict[str, str]:
    """Return what each plot shows, for those who cannot see it."""
    metric = in_words(board.ranking)
    names = facts.varying(board)
    runs = all_runs(board)
    epochs = max((len(run.result.epochs) for run in runs), default=0)
    shown = ", ".join(in_words(name) for name in curve_metrics(board))
    best = ""
    if board.rows:
        first = board.rows[0]
        best = f" The best combination, {facts.label(first, names)}, reaches a {metric} of {tables.number(first.mean)}."
    return {
        "learning_curves": f"Learning curves of {len(runs)} runs over {epochs} epochs: {shown} by epoch.{best}",
        "parallel_coordinates": f"Parallel coordinates: a line for each of {len(board.rows)} combinations "
        f"through its {', '.join(names)} to its {metric}.{best}",
        "effects": f"Mean {metric} at each value of a hyperparameter, with its 95 % interval; of a range all values. "
        f"{_best_values(board)}",
        "importance": "Importance: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) + ".",
        "best_so_far": f"The {metric} of each run, and the best up to it, by the run's number and by time.{best}",
    }


def _best_values(board: Leaderboard) -> str:
    found = facts.effects(board) if board.rows else {}
    best = {name: best_of(board, levels, lambda level: level.mean) for name, levels in found.items() if levels}
    means = ", ".join(f"{name}={level.value}" for name, level in best.items())
    return f"Best means: {means}." if means else ""
