"""The champion's answers to the test images beside the right ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.fashion_mnist.evaluation.predictions import CLASSES, Predictions

MISTAKES = 24
"""How many are shown."""


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
