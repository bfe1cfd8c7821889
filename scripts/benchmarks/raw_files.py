"""The data in the form that torchvision reads fastest."""

from pathlib import Path

import numpy as np

from sweeptrail.fashion_mnist import data


def write_raw_files(data_dir: str, folder: Path) -> None:
    """Write the data as torchvision keeps them below a folder."""
    found = data.load(data_dir)
    raw = folder / data.TORCHVISION
    raw.mkdir(parents=True)
    for file, array in zip(
        data.FILES, (found.train_images, found.train_labels, found.test_images, found.test_labels), strict=True
    ):
        header = np.array([0x800 + array.ndim, *array.shape], ">i4")
        (raw / file.name).write_bytes(header.tobytes() + array.tobytes())
