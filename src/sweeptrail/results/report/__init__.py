"""One page, and plots, that show what came out of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeptrail.errors import SweeptrailError
from sweeptrail.results.leaderboard import Leaderboard
from sweeptrail.results.report.section import Section
from sweeptrail.system.files import write_whole

FILE_NAME = "report.html"
PLOTS = "plots"
"""The folder of the plots beside the page."""


def write(folder: Path, board: Leaderboard, *, title: str, sections: Sequence[Section] = ()) -> list[Path]:
    """Write report.html and plots/*.png into the folder; return their paths, the page first.

    `sections` are what the task says of the champion. Raises SweeptrailError when they cannot be written.
    """
    from sweeptrail.results.report import facts, plots  # 0.5 s

    shares = facts.importance(board)
    with plots.style():
        pngs = {name: plots.png(figure) for name, figure in plots.draw(board, shares).items()}
    text = _page(board, shares, title=title, sections=sections)
    pngs |= {section.name: section.png for section in sections if section.png}
    try:
        (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweeptrailError(f"{folder / PLOTS}: cannot be written: {error.strerror}") from error
    paths = [folder / PLOTS / f"{name}.png" for name in pngs]
    for path, content in zip(paths, pngs.values(), strict=True):
        write_whole(path, content)
    write_whole(folder / FILE_NAME, text)
    return [folder / FILE_NAME, *paths]


def page(board: Leaderboard, *, title: str, sections: Sequence[Section] = ()) -> str:
    """Return the page as one HTML document that needs nothing beside itself."""
    from sweeptrail.results.report import facts

    return _page(board, facts.importance(board), title=title, sections=sections)


def _page(board: Leaderboard, shares: Mapping[str, float], *, title: str, sections: Sequence[Section]) -> str:
    from sweeptrail.results.report import document, plots

    with plots.style():
        svgs = {name: plots.svg(figure) for name, figure in plots.draw(board, shares).items()}
    return document.render(board, svgs, shares, title=title, sections=sections)
