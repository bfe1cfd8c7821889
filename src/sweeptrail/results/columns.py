"""Which metrics are shown in tables, and what their columns and those of the hyperparameters are called."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sweeptrail.results.leaderboard import Leaderboard, all_runs, mean_of
from sweeptrail.results.words import DURATIONS
from sweeptrail.search.space import RESERVED

MOST_FINALS = 6
"""How many final values a table for people has room for; the files have all."""


def param_column(name: str, own: Collection[str] = ()) -> str:
    """Return the column of a hyperparameter: `loss` becomes `param_loss`, since `loss` is what was measured.

    `own` are the columns that a table has besides, which are left to it as well.
    """
    return f"param_{name}" if name in own or name in RESERVED else name


def metric_column(name: str, params: Iterable[str], own: Collection[str] = ("run", "epoch")) -> str:
    """Return the column of a metric, which is `NAME_metric` if it is called like a hyperparameter."""
    return f"{name}_metric" if name in {*own, *(param_column(param, own) for param in params)} else name


def columns_of(params: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return both under the names of their columns."""
    return {
        **{param_column(name): value for name, value in params.items()},
        **{metric_column(name, params): value for name, value in metrics.items()},
    }


def metrics_of(row: Mapping[str, Any], params: Collection[str]) -> dict[str, Any]:
    """Return the metrics in what `columns_of` returned for these hyperparameters."""
    taken = {param_column(name) for name in params}
    renamed = {metric_column(name, params): name for name in (*taken, "run", "epoch")}
    return {renamed.get(name, name): value for name, value in row.items() if name not in taken}


def curve_metrics(board: Leaderboard, *, most: int = 3) -> list[str]:
    """Return which metrics of the epochs are shown: that which ranks, and the first of the others."""
    epochs = (epoch for run in all_runs(board) for epoch in run.result.epochs)
    names = _telling((name for epoch in epochs for name in epoch.metrics if name not in DURATIONS), board.ranking)
    shown = sorted(names, key=lambda name: name != board.ranking)[:most]
    return [name for name in names if name in shown]


def final_names(board: Leaderboard, *, most: int = MOST_FINALS) -> list[str]:
    """Return which metrics beside those of epochs are shown: of the ranked runs, or of all finished if none is."""
    ranked = [run.result for row in board.rows for run in row.runs]
    results = ranked or [run.result for run in board.unranked if run.result.status == "FINISHED"]
    once = (name for result in results for name in result.metrics)
    by_step = (name for result in results for name in result.latest)
    names = _telling([*once, *by_step], board.ranking)
    return [name for name in names if name != board.ranking and name not in DURATIONS][:most]


def _telling(names: Iterable[str], ranking: str) -> list[str]:
    """Return each name once; no `test_loss` where `test_accuracy` says the same so that a person understands it."""
    found = list(dict.fromkeys(names))
    prefixes = {name.rpartition("_")[0] for name in found if not name.endswith("_loss")}
    return [
        name
        for name in found
        if name == ranking or not name.endswith("_loss") or name.removesuffix("_loss") not in prefixes
    ]


OWN = ("rank", "sweep", "seeds", "stopped_early", "run", "run_id")
"""The leaderboard's own columns."""


def table_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """Return the table in leaderboard.csv, a line for each combination. The run is the best one of its combination."""
    params = list(dict.fromkeys(name for row in board.rows for name in row.params))
    finals = final_names(board, most=1000)
    ranking = metric_column(board.ranking, params, OWN)
    is_stopping = any(row.runs[0].result.stopped_early for row in board.rows)
    return [
        {
            "rank": row.rank,
            "sweep": row.runs[0].sweep,
            **{param_column(name, OWN): row.params.get(name) for name in params},
            ranking: row.mean,
            f"{ranking}_deviation": row.deviation,
            f"{ranking}_low": row.interval[0] if row.interval else None,
            f"{ranking}_high": row.interval[1] if row.interval else None,
            "seeds": len(row.runs),
            **({"stopped_early": row.runs[0].result.stopped_early} if is_stopping else {}),
            **{metric_column(name, params, OWN): mean_of(row, name) for name in finals},
            "run": row.runs[0].result.name,
            "run_id": row.runs[0].run_id,
        }
        for row in board.rows
    ]


def csv_text(board: Leaderboard) -> str:
    """Return the text of leaderboard.csv."""
    table = table_rows(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["rank"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
