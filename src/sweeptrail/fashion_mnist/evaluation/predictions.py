"""What a trained network answers to the test images, kept on disk."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeptrail.errors import SweeptrailError
from sweeptrail.system.files import write_whole

FILE_NAME = "test_predictions.npz"
COUNT = 10_000
"""How many test images Fashion-MNIST has."""

CLASSES = 10


@dataclass(frozen=True)
class Predictions:
    """The answer to each test image, in their order."""

    classes: npt.NDArray[np.uint8]
    """10000, each from 0 to 9."""
    confidences: npt.NDArray[np.float32]
    """10000, the probability of that class, from 0 to 1."""

    def save(self, path: Path) -> None:
        """Replace the file whole; raises SweeptrailError when it cannot be written."""
        content = io.BytesIO()
        np.savez(content, classes=self.classes, confidences=self.confidences)
        write_whole(path, content.getvalue())


def load(path: Path) -> Predictions:
    """Return what `save` has written; raises SweeptrailError when it is absent, damaged or something else."""
    try:
        # Opened here, since numpy leaves a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            classes, confidences = arrays["classes"], arrays["confidences"]
    except OSError as error:
        raise SweeptrailError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SweeptrailError(f"{path}: is damaged: {error}") from error
    for name, array, kind in (("classes", classes, np.uint8), ("confidences", confidences, np.float32)):
        if array.shape != (COUNT,) or array.dtype != kind:
            raise SweeptrailError(
                f"{path}: is damaged: expected {COUNT} {name} as {kind.__name__}, got {array.shape} as {array.dtype}"
            )
    if classes.max() >= CLASSES or not ((confidences >= 0) & (confidences <= 1)).all():
        raise SweeptrailError(f"{path}: is damaged: expected classes from 0 to 9 and confidences from 0 to 1")
    return Predictions(classes, confidences)
