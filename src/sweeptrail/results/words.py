"""What is said of a leaderboard: by how much its first is ahead, how sure that is, and why something is not ranked."""

import difflib
import math

from sweeptrail.results.leaderboard import (
    CONFIDENCE,
    Leaderboard,
    RankedRun,
    Row,
    all_runs,
    final_metrics,
    sweeps_of,
    total,
)

DURATIONS = ("epoch_duration", "run_duration")
"""Metrics that say nothing of what was learned."""

NAMED = 10
"""How many metrics are named where a person has to choose one."""


def in_words(metric: str) -> str:
    """Return what a person calls a metric."""
    return {"accuracy": "training accuracy", "loss": "training loss"}.get(metric, metric.replace("_", " "))


def number(value: float, beside: float | None = None) -> str:
    """Return a value with four digits after the point, or four in all where these would not tell it from others.

    `beside` is the value that it is a difference or a deviation of, and written like.
    """
    size = abs(value if beside is None else beside)
    return f"{value:.4f}" if not size or 0.001 <= size < 1_000_000 else f"{value:.4g}"


def in_time(seconds: float) -> str:
    """Return seconds as a person would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.2g} min" if minutes < 60 else f"{minutes / 60:.1f} h"


def plural(word: str, count: int) -> str:
    """Return how many there are of something: `1 run`, `8 runs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def as_sentence(line: str) -> str:
    """Return a line as it begins a paragraph."""
    return line[:1].upper() + line[1:]


def label(row: Row, board: Leaderboard) -> str:
    """Return what a combination is called among the others: `lr=0.01, shuffle=True`, and of which of several sweeps."""
    text = ", ".join(f"{name}={value}" for name, value in row.params.items()) or "the only combination"
    return f"{text} of {row.runs[0].sweep}" if len(sweeps_of(board)) > 1 else text


def verdict(board: Leaderboard) -> str:
    """Say in one sentence by how much the first is ahead of the second; nothing with fewer than two to compare.

    Whether they can be told apart says Welch's t-test, two-sided, at 5 % (B. L. Welch, Biometrika 34, 1947).
    """
    rivals = [row for row in board.rows[:2] if math.isfinite(row.mean) and not row.runs[0].result.stopped_early]
    if len(rivals) < 2:
        return ""
    first, second = rivals
    ahead = (
        f"{label(first, board)} is {number(abs(first.mean - second.mean), first.mean)} ahead of {label(second, board)} "
        f"in {in_words(board.ranking)}"
    )
    if first.deviation is None or second.deviation is None:
        return f"{ahead}; one seed cannot say how sure that is: write seed=0,1,2."
    probability = _welch(first, second)
    can = "can" if probability < 1 - CONFIDENCE else "cannot"
    seeds = " and ".join(dict.fromkeys(str(len(row.runs)) for row in rivals))
    return f"{ahead}, the mean of {seeds} seeds; they {can} be told apart (Welch's t-test, p = {probability:.2g})."


def _welch(first: Row, second: Row) -> float:
    """Return how probable a difference at least as large is by chance alone."""
    from scipy.special import stdtr  # 0.3 s

    errors = [(row.deviation or 0.0) ** 2 / len(row.runs) for row in (first, second)]
    error = total(errors)
    if not error:
        return float(first.mean == second.mean)
    freedom = error**2 / total(
        [part**2 / (len(row.runs) - 1) for part, row in zip(errors, (first, second), strict=True)]
    )
    return 2 * float(stdtr(freedom, -abs(first.mean - second.mean) / math.sqrt(error)))


def saved(board: Leaderboard) -> str:
    """Say in one sentence what early stopping has spent; nothing where it has stopped none, or left none whole."""
    if not (epochs := epochs_spent(board)):
        return ""
    runs = [run.result for row in board.rows for run in row.runs]
    stopped = sum(bool(result.stopped_early) for result in runs)
    spent = f"{epochs[0]} of {epochs[1]} epochs ({epochs[0] / epochs[1]:.0%})"
    return f"{stopped} of {len(runs)} runs were stopped early: {spent}."


def epochs_spent(board: Leaderboard) -> tuple[int, int] | None:
    """Return how many epochs the runs have taken, and would have if all were whole; None as `saved` says nothing."""
    runs = [run.result for row in board.rows for run in row.runs]
    counts = [result.epochs[-1].epoch if result.epochs else 0 for result in runs]
    whole = max((count for count, result in zip(counts, runs, strict=True) if not result.stopped_early), default=0)
    is_stopping = any(result.stopped_early for result in runs)
    return (sum(counts), whole * len(runs)) if is_stopping and whole else None


def why_no_champion(board: Leaderboard) -> str:
    """Say in one line why runs have finished and none is the best, and what to write; nothing where one is."""
    finished = [run for run in all_runs(board) if run.result.status == "FINISHED"]
    if board.champion or not finished:
        return ""
    if board.rows:
        return f"there is no champion: {board.ranking} is nan everywhere"
    names = [name for name in dict.fromkeys(n for run in finished for n in final_metrics(run)) if name not in DURATIONS]
    if not names:
        return "nothing is ranked: no metric was logged"
    have = f"the runs have {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
    if not board.ranked_by:
        return f"nothing is ranked: no goal was given; {have}; write --goal min:{names[0]} or --goal max:{names[0]}"
    near = difflib.get_close_matches(board.ranking, names, n=1)
    hint = f"; did you mean --goal {'max' if board.goal.greater_is_better else 'min'}:{near[0]}?" if near else ""
    return f"nothing is ranked: no run has {board.ranking}, the goal; {have}{hint}"


def unranked(board: Leaderboard) -> list[RankedRun]:
    """Return the runs without a rank of which there is something to say: not all of them where none has one."""
    return [run for run in board.unranked if run.result.status != "FINISHED" or board.rows]


def why_unranked(run: RankedRun, board: Leaderboard) -> str:
    """Say why a run has no rank; nothing where none has one."""
    if run.result.status != "FINISHED":
        return run.result.reason
    return f"has no {board.ranking}: not ranked" if board.rows else ""
