"""Puts words, tables and plots together to one HTML document."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from sweeptrail.results.leaderboard import Leaderboard, final_metrics, in_words, verdict
from sweeptrail.results.report import facts, tables
from sweeptrail.results.report.theme import DARK, LIGHT, inline_svg

TEMPLATE = "page.html.jinja"

SHOWN = 25
"""How many combinations the ranked table shows before it has to be unfolded."""


@dataclass(frozen=True)
class Plot:
    """A plot in the page."""

    svg: Markup
    numbers: tables.Table | None
    """None where they are in the ranked table."""


def render(board: Leaderboard, drawings: Mapping[str, str], *, title: str, evaluation: facts.Evaluation | None) -> str:
    """Return the document; `drawings` are matplotlib's SVG by the name of the plot."""
    alternatives, numbers = _alternatives(board, evaluation), _numbers(board, evaluation)
    text = _template().render(
        title=facts.text_of(title),
        board=board,
        champion=facts.text_of(board.champion.result.name) if board.champion else "",
        figures=_key_figures(board),
        verdict=facts.text_of(verdict(board)),
        metric=in_words(board.ranking),
        seeds=tables.has_seeds(board),
        ranking=tables.ranking(board),
        shown=SHOWN,
        unfinished=tables.unfinished(board),
        plots={
            name: Plot(Markup(inline_svg(svg, name=name, alternative=alternatives[name])), numbers.get(name))
            for name, svg in drawings.items()
        },
        pictures=tables.mistakes(evaluation) if evaluation else [],
        evaluated=evaluation is not None,
        highlights=facts.HIGHLIGHTS,
        light=LIGHT,
        dark=DARK,
    )
    return re.sub(r"\n\s+", "\n", text)


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        TEMPLATE
    )


def _key_figures(board: Leaderboard) -> dict[str, str]:
    """Return the few numbers that people look for first."""
    runs = facts.all_runs(board)
    counts = {
        "combinations": str(len(board.rows)),
        "runs finished": f"{len(runs) - len(board.unranked)} of {len(runs)}",
    }
    if not board.champion:
        return counts
    metrics = final_metrics(board.champion)
    return {
        in_words(board.ranking): tables.number(metrics[board.ranking]),
        "test accuracy": tables.number(metrics.get("test_accuracy")),
        **counts,
    }


def _numbers(board: Leaderboard, evaluation: facts.Evaluation | None) -> dict[str, tables.Table]:
    compared = {"learning_curves": tables.curves(board), "effects": tables.effects(board)}
    if not evaluation:
        return compared
    return {
        **compared,
        "confusion_matrix": tables.confusion(evaluation),
        "class_accuracy": tables.class_accuracies(evaluation),
    }


def _alternatives(board: Leaderboard, evaluation: facts.Evaluation | None) -> dict[str, str]:
    """Return what each plot shows, for those who cannot see it."""
    metric = in_words(board.ranking)
    names = facts.varying(board)
    runs = facts.all_runs(board)
    epochs = max((len(run.result.epochs) for run in runs), default=0)
    shown = ", ".join(in_words(name) for name in facts.metrics_of(board))
    best = ""
    if board.rows:
        first = board.rows[0]
        best = f" The best combination, {facts.label(first, names)}, reaches a {metric} of {tables.number(first.mean)}."
    known = {
        "learning_curves": f"Learning curves of {len(runs)} runs over {epochs} epochs: {shown} by epoch.{best}",
        "parallel_coordinates": f"Parallel coordinates: a line for each of {len(board.rows)} combinations "
        f"through its {', '.join(names)} to its {metric}.{best}",
        "effects": f"Mean {metric} at each value of a hyperparameter, with its 95 % interval. {_best_values(board)}",
    }
    return {**known, **(_test_alternatives(evaluation) if evaluation else {})}


def _best_values(board: Leaderboard) -> str:
    found = facts.effects(board)
    best = {name: max(levels, key=lambda level: level.mean) for name, levels in found.items() if levels}
    return "Highest means: " + ", ".join(f"{name}={level.value}" for name, level in best.items()) + "."


def _test_alternatives(evaluation: facts.Evaluation) -> dict[str, str]:
    (first, highest), *_, (last, lowest) = evaluation.class_accuracies
    count, is_, taken_for = evaluation.most_frequent_mistake
    return {
        "confusion_matrix": "Confusion matrix of the ten classes on the test images. "
        f"The most frequent mistake: {count} images of class {is_} taken for {taken_for}.",
        "class_accuracy": f"Share of the images of each class that were recognised: "
        f"from {first} with {highest:.1%} down to {last} with {lowest:.1%}.",
    }
