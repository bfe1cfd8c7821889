"""One page, and plots, that show what came out of a sweep."""

from pathlib import Path

from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.evaluation.predictions import Predictions
from sweeptrail.results.leaderboard import Leaderboard
from sweeptrail.results.report import facts
from sweeptrail.system.files import write_whole

FILE_NAME = "report.html"
PLOTS = "plots"
"""The folder of the plots beside the page."""


def write(
    folder: Path, board: Leaderboard, *, title: str, data: FashionMnist | None, predictions: Predictions | None
) -> list[Path]:
    """Write report.html and plots/*.png into the folder; return their paths, the page first.

    `predictions` are the champion's. Raises SweeptrailError when they cannot be written.
    """
    from sweeptrail.results.report import document, plots  # 0.5 s

    evaluation = facts.evaluation_of(data, predictions)
    with plots.style():
        figures = plots.draw(board, evaluation)
        svgs = {name: plots.svg(figure) for name, figure in figures.items() if name in plots.IN_PAGE}
        pngs = {folder / PLOTS / f"{name}.png": plots.png(figure) for name, figure in figures.items()}
    try:
        (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweeptrailError(f"{folder / PLOTS}: cannot be written: {error.strerror}") from error
    for path, content in pngs.items():
        write_whole(path, content)
    write_whole(folder / FILE_NAME, document.render(board, svgs, title=title, evaluation=evaluation))
    return [folder / FILE_NAME, *pngs]


def page(board: Leaderboard, *, title: str, data: FashionMnist | None, predictions: Predictions | None) -> str:
    """Return the page as one HTML document that needs nothing beside itself."""
    from sweeptrail.results.report import document, plots  # 0.5 s

    evaluation = facts.evaluation_of(data, predictions)
    with plots.style():
        figures = plots.draw(board, evaluation)
        svgs = {name: plots.svg(figure) for name, figure in figures.items() if name in plots.IN_PAGE}
    return document.render(board, svgs, title=title, evaluation=evaluation)
