"""Draws what the champion takes the test images for."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.fashion_mnist.evaluation.facts import Evaluation
from sweeptrail.fashion_mnist.evaluation.predictions import CLASSES
from sweeptrail.results.report.plots import WIDTH
from sweeptrail.results.report.theme import COLOURS, LIGHT


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Draw how many images of each class were taken for each class."""
    confusion = evaluation.confusion
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    figure = Figure((7.6, 5.6))
    axes = figure.add_axes((0.15, 0.01, 0.84, 0.89))
    for row, column in np.ndindex(confusion.shape):
        _cell(axes, row, column, int(confusion[row, column]), float(shares[row, column]))
    axes.set(xlim=(0, CLASSES), ylim=(CLASSES, 0))
    centres = np.arange(CLASSES) + 0.5
    axes.set_xticks(centres, CLASS_NAMES, fontsize=7.5)
    axes.set_yticks(centres, CLASS_NAMES)
    axes.xaxis.tick_top()
    axes.set_xlabel("predicted class")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("true class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def _cell(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    # The square root, since what matters are the few mistakes.
    strength = math.sqrt(share)
    colour = COLOURS[0] if row == column else COLOURS[1]
    axes.add_patch(
        Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, facecolor=colour, alpha=0.04 + 0.96 * strength, linewidth=0)
    )
    if count:
        ink = LIGHT["surface"] if strength > 0.6 else LIGHT["ink"]
        axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", color=ink)


def class_accuracy(evaluation: Evaluation) -> Figure:
    """Draw the share of the images of each class that were recognised."""
    pairs = evaluation.class_accuracies
    figure = Figure((7.6, 3.0))
    axes = figure.add_axes((0.15, 0.02, 0.78, 0.96))
    axes.barh([name for name, _ in pairs], [share for _, share in pairs], color=COLOURS[0], height=0.55)
    for row, (_, share) in enumerate(pairs):
        axes.text(share + 0.008 if share == share else 0.008, row, f"{share:.1%}", va="center")
    axes.set(xlim=(0, 1), xticks=[], ylim=(CLASSES - 0.4, -0.6))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return figure


def mistakes(evaluation: Evaluation) -> Figure:
    """Draw the most confident mistakes in rows of eight, each with what it is and what it was taken for."""
    chosen = evaluation.mistakes
    rows = max(1, math.ceil(len(chosen) / 8))
    mosaic = np.full((rows * 46, 8 * 34), 255, np.uint8)
    figure = Figure((WIDTH, WIDTH * rows * 46 / (8 * 34)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for position, index in enumerate(chosen):
        top, left = position // 8 * 46 + 2, position % 8 * 34 + 3
        mosaic[top : top + 28, left : left + 28] = evaluation.images[index]
        axes.text(left - 0.5, top + 29, "\n".join(evaluation.sentence(index)), va="top", fontsize=8.5)
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
    return figure
