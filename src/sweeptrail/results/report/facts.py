"""What the report shows, computed from the leaderboard and from the champion's predictions."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeptrail.fashion_mnist.data import CLASS_NAMES, FashionMnist
from sweeptrail.fashion_mnist.evaluation.predictions import CLASSES, Predictions
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, Row, final_metrics, sweeps_of

HIGHLIGHTS = 5
"""How many of the best combinations have a colour of their own; more could not be told apart."""

MISTAKES = 24


SWEEP = "sweep"
"""Several sweeps are compared like the values of one more hyperparameter."""

NOTHING = "\N{EN DASH}"
"""Stands for a number that is not known."""


def metrics_of(board: Leaderboard) -> list[str]:
    """Return the metrics whose learning curves are shown."""
    has_validation = any("validation_accuracy" in final_metrics(run) for run in all_runs(board))
    return ["loss", "accuracy", *(["validation_accuracy"] if has_validation else [])]


def all_runs(board: Leaderboard) -> list[RankedRun]:
    """Return every run, those of the best combination first."""
    return [*(run for row in board.rows for run in row.runs), *board.unranked]


def text_of(value: Any) -> str:
    """Return a value as people read it, without characters that XML cannot hold."""
    return NOTHING if value is None else "".join(char if char.isprintable() else " " for char in str(value))


def columns_of(board: Leaderboard) -> list[str]:
    """Return what combinations can differ in: the sweep, where there are several, and the hyperparameters."""
    several = len(sweeps_of(board)) > 1
    return [*([SWEEP] if several else []), *dict.fromkeys(name for row in board.rows for name in row.params)]


def value_of(row: Row, column: str) -> Any:
    """Return what a combination has in a column; None where it has no such hyperparameter."""
    return row.runs[0].sweep if column == SWEEP else row.params.get(column)


def levels(board: Leaderboard, column: str) -> list[Any]:
    """Return the values in a column in their order; None comes last."""
    values = {value_of(row, column) for row in board.rows}
    return sorted(values, key=lambda value: (value is None, isinstance(value, str), value if value is not None else 0))


def varying(board: Leaderboard) -> list[str]:
    """Return the columns that distinguish the combinations, or all where none does."""
    columns = columns_of(board)
    return [column for column in columns if len(levels(board, column)) > 1] or columns


def label(row: Row, columns: Iterable[str]) -> str:
    """Return a combination in words, cut where it is too long for a plot."""
    return shortened(", ".join(f"{column}={text_of(value_of(row, column))}" for column in columns), 110)


def shortened(text: str, longest: int) -> str:
    """Return the text, cut if it has more characters than that."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def joined(runs: Iterable[RankedRun], metric: str, *, most: int = 20_000) -> tuple[list[float], list[float]]:
    """Return epochs and values of all these curves as one line with gaps, of about `most` points at most."""
    curves = [run.result.epochs for run in runs]
    stride = math.ceil(sum(map(len, curves)) / most) or 1
    epochs: list[float] = []
    values: list[float] = []
    for curve in curves:
        kept = [*curve[:-1:stride], *curve[-1:]]
        epochs += [*(epoch.epoch for epoch in kept), math.nan]
        values += [*(epoch.metrics.get(metric, math.nan) for epoch in kept), math.nan]
    return epochs, values


def fences(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the range without what is far out, three times the interquartile range (Tukey); None without numbers."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return None
    low, high = np.quantile(finite, (0.25, 0.75))
    reach = 3 * (high - low)
    inside = finite[(finite >= low - reach) & (finite <= high + reach)]
    return float(inside.min()), float(inside.max())


@dataclass(frozen=True)
class Level:
    """All runs in which a hyperparameter has the same value."""

    value: str
    runs: int
    mean: float
    interval: tuple[float, float] | None
    """95 % confidence interval of the mean (Student's t); None for a single run."""


def effects(board: Leaderboard) -> dict[str, list[Level]]:
    """Return for each column with several values the mean of the ranking metric at each of them."""
    return {
        column: [level for value in values if value is not None and (level := _level(board, column, value))]
        for column in varying(board)
        if len(values := levels(board, column)) > 1
    }


def _level(board: Leaderboard, column: str, value: Any) -> Level | None:
    runs = [run for row in board.rows if value_of(row, column) == value for run in row.runs]
    numbers = np.array([final_metrics(run)[board.ranking] for run in runs])
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return None
    mean = float(finite.mean())
    if len(finite) == 1:
        return Level(text_of(value), 1, mean, None)
    from scipy.special import stdtrit  # 0.3 s

    margin = float(stdtrit(len(finite) - 1, 0.975) * finite.std(ddof=1) / math.sqrt(len(finite)))
    return Level(text_of(value), len(finite), mean, (mean - margin, mean + margin))


@dataclass(frozen=True)
class Evaluation:
    """The champion's answers beside the right ones."""

    images: npt.NDArray[np.uint8]
    """10000 x 28 x 28."""
    labels: npt.NDArray[np.uint8]
    predictions: Predictions

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """How many images of each class (10, down) were taken for each class (10, across)."""
        pairs = self.labels.astype(np.int64) * CLASSES + self.predictions.classes
        return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)

    @property
    def most_frequent_mistake(self) -> tuple[int, str, str]:
        """How often it was made, what those images are, and what they were taken for."""
        wrong = self.confusion * ~np.eye(CLASSES, dtype=bool)
        is_, taken_for = np.unravel_index(wrong.argmax(), wrong.shape)
        return int(wrong.max()), CLASS_NAMES[is_], CLASS_NAMES[taken_for]

    @property
    def class_accuracies(self) -> list[tuple[str, float]]:
        """Each class with the share of its images that were recognised, the best first; nan without images."""
        confusion = self.confusion
        images = confusion.sum(axis=1)
        shares = np.divide(np.diag(confusion), images, out=np.full(CLASSES, np.nan), where=images > 0)
        return sorted(zip(CLASS_NAMES, shares.tolist(), strict=True), key=lambda pair: -pair[1])

    @property
    def mistakes(self) -> list[int]:
        """Which images were taken for something else, the most confident first."""
        wrong = np.flatnonzero(self.predictions.classes != self.labels)
        order = np.argsort(-self.predictions.confidences[wrong], kind="stable")
        return [int(index) for index in wrong[order][:MISTAKES]]

    def sentence(self, index: int) -> tuple[str, str, str]:
        """Return what an image is, what it was taken for, and how surely."""
        classes, confidences = self.predictions.classes, self.predictions.confidences
        is_, taken_for = CLASS_NAMES[self.labels[index]], CLASS_NAMES[classes[index]]
        return is_, f"taken for {taken_for}", f"{confidences[index]:.1%}"


def evaluation_of(data: FashionMnist | None, predictions: Predictions | None) -> Evaluation | None:
    """Return the champion's answers beside the right ones, if both are here."""
    return Evaluation(data.test_images, data.test_labels, predictions) if data and predictions else None
