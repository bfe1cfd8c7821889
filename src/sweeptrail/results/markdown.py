"""The description of a sweep's parent run: what the overview of MLflow's UI shows of the leaderboard."""

import re
from collections.abc import Callable, Iterable, Iterator

from sweeptrail.results.columns import final_names
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, Row, all_runs, final_metrics, mean_of
from sweeptrail.results.words import (
    as_sentence,
    in_words,
    number,
    saved,
    unranked,
    verdict,
    why_no_champion,
    why_unranked,
)
from sweeptrail.tracking.ui_links import Where, resolve

LENGTH = 7500
"""Characters of the whole text with its links; MLflow cuts a tag after 8,000 (MAX_TAG_VAL_LENGTH)."""

LONGEST_ID = Where("0" * 20, "0" * 32)
"""An experiment's and a run's; both are as long as MLflow makes them."""

ROWS, FAILURES = 20, 10
"""How many there is room for, with names and reasons of the usual length."""

VERDICT_ROOM, TABLE_ROOM, FAILURES_ROOM = 1000, 4300, 900
"""Characters, so that something of everything is there also with names and reasons that are long."""

NAME_LENGTH, REASON_LENGTH = 120, 200

LINK_LENGTH = 39
"""Characters of a run in the address of a comparison."""


def note(
    board: Leaderboard, *, identity_of: Callable[[RankedRun], str], has_report: bool = True, remark: str = ""
) -> str:
    """Return Markdown with a person's remark, the champion, the ranked table, links, and the runs that are not ranked.

    The links name runs by their identities; the courier puts the addresses in (outbox/links.py).
    """

    def link(run: RankedRun) -> str:
        return f"[{_escaped(run.result.name, NAME_LENGTH)}](run:{identity_of(run)})"

    table = list(_table(board, link, TABLE_ROOM - len(remark)))
    failures = list(_failures(board, link))
    files = f"{'[Report](artifact:report.html) · ' if has_report else ''}[leaderboard.csv](artifact:leaderboard.csv)"
    paragraphs = [
        remark,
        _champion(board, link),
        *_fitting([_escaped(verdict(board), VERDICT_ROOM)], VERDICT_ROOM),
        saved(board),
        "\n".join(table),
        "\n".join(failures),
        files,
    ]
    room = LENGTH - _length("\n\n".join(paragraphs))
    paragraphs[-1] += _comparison(board, identity_of, room)
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _champion(board: Leaderboard, link: Callable[[RankedRun], str]) -> str:
    if not (champion := board.champion):
        return _escaped(as_sentence(why_no_champion(board)), VERDICT_ROOM) or "No run has finished yet."
    metrics = final_metrics(champion)
    shown = (board.ranking, *final_names(board))
    values = ", ".join(f"{in_words(name)} {number(metrics[name])}" for name in shown if name in metrics)
    return f"**Champion: {link(champion)}**, {values}"


def _table(board: Leaderboard, link: Callable[[RankedRun], str], room: int) -> Iterator[str]:
    """Yield the lines of the ranked table, and how many combinations there was no room for."""
    if not board.rows:
        return
    repeated, finals = any(len(row.runs) > 1 for row in board.rows), final_names(board)
    heads = ["rank", "best run" if repeated else "run", in_words(board.ranking)]
    is_stopping = any(row.runs[0].result.stopped_early for row in board.rows)
    heads += [*(["95 % interval", "seeds"] if repeated else []), *map(in_words, finals)]
    yield _row([*heads, *(["stopped early"] if is_stopping else [])])
    yield _row(["---:", ":---", *["---:"] * (len(heads) - 2), *([":---"] if is_stopping else [])])
    cells = (
        (_cells(row, link, finals, repeated=repeated), [row.runs[0].result.stopped_early] if is_stopping else [])
        for row in board.rows[:ROWS]
    )
    lines = (_row([*known, *stopped]) for known, stopped in cells)
    shown = list(_fitting(lines, room))
    yield from shown
    if more := len(board.rows) - len(shown):
        yield f"\n{more} more in leaderboard.csv."


def _cells(row: Row, link: Callable[[RankedRun], str], finals: Iterable[str], *, repeated: bool) -> list[str]:
    means = (mean_of(row, name) for name in finals)
    cells = [str(row.rank), link(row.runs[0]), number(row.mean)]
    if repeated:
        cells += [" to ".join(map(number, row.interval or ())), str(len(row.runs))]
    return [*cells, *("" if mean is None else number(mean) for mean in means)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _failures(board: Leaderboard, link: Callable[[RankedRun], str]) -> Iterator[str]:
    """Yield a list of the runs that did not finish, or have no value of the metric that ranks."""
    others = unranked(board)
    if not others:
        return
    count = len(others)
    what = "not ranked" if any(run.result.status == "FINISHED" for run in others) else "did not finish"
    yield f"{count} {'run' if count == 1 else 'runs'} {what}:\n"
    lines = (
        f"- {link(run)} {run.result.status} {_escaped(why_unranked(run, board), REASON_LENGTH)}".rstrip()
        for run in others[:FAILURES]
    )
    shown = list(_fitting(lines, FAILURES_ROOM))
    yield from shown
    if more := count - len(shown):
        yield f"- and {more} more"


def _comparison(board: Leaderboard, identity_of: Callable[[RankedRun], str], room: int) -> str:
    """Return the link to the comparison of all runs, or of the best that there is room for."""
    everyone = all_runs(board)
    if len(everyone) < 2:
        return ""
    fitting = (room - len(" · [Compare the best 1000 runs]()") - _length("[](compare:a,b)")) // LINK_LENGTH
    shown = everyone[: max(2, fitting)]
    which = f"all {len(shown)}" if len(shown) == len(everyone) else f"the best {len(shown)}"
    return f" · [Compare {which} runs](compare:{','.join(identity_of(run) for run in shown)})"


def _fitting(lines: Iterable[str], room: int) -> Iterator[str]:
    for line in lines:
        room -= _length(line) + 1
        if room < 0:
            return
        yield line


def _length(text: str) -> int:
    """Return how long a text is once its links are addresses."""
    return len(resolve(text, LONGEST_ID, lambda _: LONGEST_ID))


def _escaped(text: str, length: int) -> str:
    """Return a text on one line, cut to this length, in which nothing means anything to Markdown."""
    line = " ".join(text.split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    # The UI's Markdown is GitHub's, and makes links also of addresses and of names after @.
    line = re.sub(r"[&<>@:]", lambda match: f"&#{ord(match[0])};", line)
    return re.sub(r"(?<!&)([\\`*_\[\]|~#])", r"\\\1", line)
