"""Compares sweeps: finds their runs, here or on a tracking server, and shows the leaderboard as text."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sweeptrail.errors import SettingsError
from sweeptrail.results.columns import csv_text, final_names, param_column, table_rows
from sweeptrail.results.find import find_any, nowhere
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, mean_of, sweeps_of
from sweeptrail.results.runs_on_disk import runs_in
from sweeptrail.results.table import json_value
from sweeptrail.results.words import in_words, number, saved, unranked, verdict, why_no_champion, why_unranked
from sweeptrail.tracking.uri import Tracking

Format = Literal["table", "csv", "json", "html"]


def find(which: str, runs_dir: Path, tracking: Tracking) -> list[RankedRun]:
    """Return the runs of the sweep that is meant by `latest`, a folder, its name, or the id of its parent run.

    Looks into the folders of this machine first. Raises SettingsError if the sweep is nowhere, or
    none of its runs has finished, and DeliveryError when the tracking server does not answer.
    """
    if folder := find_any(runs_dir, which):
        found = runs_in(folder)
    elif _may_be_there(which, tracking):
        from sweeptrail.results.runs_on_server import gather

        found = gather(tracking.uri, which)
    else:
        raise nowhere(runs_dir, which)
    if not any(run.result.status == "FINISHED" for run in found):
        ended = f"{len(found)} ended otherwise" if found else "none has ended yet"
        raise SettingsError(f"{which}: expected a sweep with a finished run, got one where {ended}")
    return found


def with_unique_names(found: Iterable[list[RankedRun]]) -> list[RankedRun]:
    """Return the runs of several sweeps; two of the same name get numbers, one that was named twice counts once."""
    known: dict[str, list[set[tuple[int, float]]]] = defaultdict(list)
    runs: list[RankedRun] = []
    for sweep in found:
        name = sweep[0].sweep
        own = {(one.result.index, one.result.time) for one in sweep}
        if own in known[name]:
            continue
        known[name].append(own)
        number = len(known[name])
        runs += sweep if number == 1 else [replace(one, sweep=f"{name} ({number})") for one in sweep]
    return runs


def _may_be_there(which: str, tracking: Tracking) -> bool:
    """Tell whether it is worth asking: that takes 2 s, and makes a database where there is none."""
    database = tracking.database
    return bool(re.fullmatch("[0-9a-f]{32}", which)) and (database is None or database.exists())


def render(board: Leaderboard, form: Format) -> str:
    """Return the leaderboard as text; the page shows what the champion predicts if that is on this machine."""
    match form:
        case "table":
            return table(board)
        case "csv":
            return csv_text(board)
        case "json":
            return json_text(board)
        case "html":
            return _page(board)


def _page(board: Leaderboard) -> str:
    from sweeptrail.results import report  # matplotlib takes 0.5 s
    from sweeptrail.results.report import section

    folder = board.champion.folder if board.champion else ""
    sections = section.load(Path(folder).parent) if folder else ()
    return report.page(board, title=", ".join(sweeps_of(board)), sections=sections)


def table(board: Leaderboard) -> str:
    """Return columns for a terminal, the verdict, and the runs that are not ranked."""
    lines = _aligned(_lines(board)) if board.rows else []
    others = [f"{run.result.name}  {run.result.status}  {why_unranked(run, board)}".rstrip() for run in unranked(board)]
    remarks = [*filter(None, [verdict(board), why_no_champion(board), saved(board)]), *others]
    return "\n".join([*lines, *([""] if lines and remarks else []), *remarks]) + "\n"


def _lines(board: Leaderboard) -> list[list[str]]:
    """Return the cells of the table, its heads first."""
    repeated = any(row.deviation is not None for row in board.rows)
    several = len(sweeps_of(board)) > 1
    finals = final_names(board)
    names = list(dict.fromkeys(name for row in board.rows for name in row.params))
    is_stopping = any(row.runs[0].result.stopped_early for row in board.rows)
    heads = ["rank", *(["sweep"] if several else []), *map(param_column, names), in_words(board.ranking)]
    heads += [
        *(["95 % interval", "seeds"] if repeated else []),
        *map(in_words, finals),
        *(["stopped early"] if is_stopping else []),
        "best run" if repeated else "run",
    ]
    lines = [heads]
    for row in board.rows:
        best = row.runs[0]
        cells = [row.rank, *([best.sweep] if several else []), *(row.params.get(name) for name in names)]
        interval = " to ".join(map(number, row.interval or ()))
        cells += [number(row.mean), *([interval, len(row.runs)] if repeated else [])]
        means = (mean_of(row, name) for name in finals)
        cells += [None if mean is None else number(mean) for mean in means]
        cells += [*([best.result.stopped_early] if is_stopping else []), best.result.index]
        lines.append(["" if cell is None else str(cell) for cell in cells])
    return lines


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def json_text(board: Leaderboard) -> str:
    """Return the ranked combinations, what is said of them, and the runs that are not ranked; null for nan."""
    others = [
        {"sweep": one.sweep, "run": one.result.name, "run_id": one.run_id, "status": one.result.status,
         "reason": why_unranked(one, board)}
        for one in board.unranked
    ]  # fmt: skip
    rows = [{name: json_value(value) for name, value in row.items()} for row in table_rows(board)]
    content = {
        "ranking": board.ranking,
        "goal": str(board.ranked_by or ""),
        "verdict": verdict(board),
        "remark": why_no_champion(board),
        "places": rows,
        "unranked": others,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
