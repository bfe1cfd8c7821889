"""Fashion-MNIST on disk: found, verified and read."""

import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeptrail.errors import DataError, one_line
from sweeptrail.system.shared_arrays import share

Bytes = npt.NDArray[np.uint8]

TORCHVISION = Path("FashionMNIST", "raw")
"""Where torchvision keeps the files below the folder that it is told to download to."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where the package dataset-fashion-mnist puts the files."""

CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""By label."""

CHUNK = 1 << 18
"""Bytes unpacked at a time: they are hashed while they are still in the processor's cache."""

WAYS = (
    "to get the data, let torchvision download it where there is a network (remove damaged files first), "
    "or apt-get install dataset-fashion-mnist on Debian or Ubuntu, "
    "or write data_dir=FOLDER for a folder that has the four files"
)


@dataclass(frozen=True, eq=False)
class FashionMnist:
    """The data set as published, whatever the files were packed in, in memory that processes can share."""

    train_images: Bytes
    """60000 x 28 x 28."""
    train_labels: Bytes
    """60000, each from 0 to 9."""
    test_images: Bytes
    """10000 x 28 x 28."""
    test_labels: Bytes
    """10000, each from 0 to 9."""
    folder: str
    """Where the files lie."""
    digest: str
    """What the contents are, in 16 hexadecimal digits."""


@dataclass(frozen=True)
class _File:
    name: str
    shape: tuple[int, ...]
    sha256: str
    """Of the unpacked file, its header included; equal to that of the publisher's archives."""

    @property
    def header(self) -> int:
        """Bytes before the data: in an IDX file, a magic number and one number for each dimension."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        return self.header + prod(self.shape)


FILES = (
    _File(
        "train-images-idx3-ubyte", (60_000, 28, 28), "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    _File("train-labels-idx1-ubyte", (60_000,), "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    _File(
        "t10k-images-idx3-ubyte", (10_000, 28, 28), "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    _File("t10k-labels-idx1-ubyte", (10_000,), "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
"""In the order of the fields of FashionMnist."""

DIGEST = hashlib.sha256("".join(file.sha256 for file in FILES).encode()).hexdigest()[:16]


def load(data_dir: str | None = None, download_to: str = "data") -> FashionMnist:
    """Return the data from `data_dir`, or else from where torchvision, then Debian, keeps it, or else download it.

    Each file may be as it is or packed as .gz. Raises DataError with a line for each file that is
    missing or damaged; a damaged folder is never passed over for the next.
    """
    found = load_here(data_dir, download_to)
    if found is None:
        _download(Path(download_to))
        found = _read(Path(download_to) / TORCHVISION)
    return found


def load_here(data_dir: str | None = None, download_to: str = "data") -> FashionMnist | None:
    """Return the same if they are on this machine; nothing is downloaded. Raises DataError for damaged ones."""
    if data_dir is not None:
        return _read(_given(Path(data_dir)))
    for folder in (Path(download_to) / TORCHVISION, DEBIAN):
        if _has_any(folder):
            return _read(folder)
    return None


def _given(folder: Path) -> Path:
    if not os.path.isdir(folder):
        came = "a file" if os.path.isfile(folder) else "no such folder"
        raise DataError([f"data_dir: expected a folder with the four files, got {str(folder)!r}: {came}", WAYS])
    below = folder / TORCHVISION
    return below if _has_any(below) and not _has_any(folder) else folder


def _has_any(folder: Path) -> bool:
    return any(os.path.lexists(folder / (file.name + suffix)) for file in FILES for suffix in ("", ".gz"))


def _download(folder: Path) -> None:
    try:
        from torchvision.datasets import FashionMNIST  # slow, and needed only once

        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as beside:
            FashionMNIST(beside, download=True)
            (folder / TORCHVISION).parent.mkdir(exist_ok=True)
            if not _has_any(folder / TORCHVISION):  # another sweep may have been faster
                os.replace(Path(beside, TORCHVISION), folder / TORCHVISION)
    except Exception as error:  # whatever a missing torchvision, a network or a full disk comes up with
        raise DataError(
            [
                f"Fashion-MNIST was not found, and torchvision could not download it into {folder}: {one_line(error)}",
                WAYS,
            ]
        ) from error


def _read(folder: Path) -> FashionMnist:
    # Unpacking and hashing leave the interpreter free, so the small files are read while the large one is.
    with ThreadPoolExecutor(len(FILES)) as pool:
        answers = list(pool.map(lambda file: _read_file(folder, file), FILES))
    problems = [answer for answer in answers if isinstance(answer, str)]
    arrays = [answer for answer in answers if not isinstance(answer, str)]
    if problems:
        raise DataError([*problems, WAYS])
    train_images, train_labels, test_images, test_labels = arrays
    return FashionMnist(train_images, train_labels, test_images, test_labels, str(folder), DIGEST)


def _read_file(folder: Path, file: _File) -> Bytes | str:
    """Return the file's data in its shape, or the sentence that says what is wrong with the file."""
    plain, packed = folder / file.name, folder / f"{file.name}.gz"
    path = packed if packed.exists() and not plain.exists() else plain
    expected = f"{path}: expected {file.size} bytes, unpacked, with SHA-256 {file.sha256[:12]}…"
    content = np.empty(file.size, np.uint8)
    sha256 = hashlib.sha256()
    size = 0
    try:
        for chunk in _chunks(path):
            if size + len(chunk) > file.size:
                return f"{expected}, got more"
            content[size : size + len(chunk)] = np.frombuffer(chunk, np.uint8)
            sha256.update(chunk)
            size += len(chunk)
    except FileNotFoundError:
        return f"{expected}, got no such file, nor {packed.name}"
    except OSError as error:
        return f"{expected}, got {error.strerror or error}"
    except zlib.error as error:
        return f"{expected}, got a damaged gzip file, unpacked up to byte {size}: {error}"
    if sha256.hexdigest() != file.sha256:
        return f"{expected}, got {size} bytes with SHA-256 {sha256.hexdigest()[:12]}…"
    return share(content[file.header :].reshape(file.shape))


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield what is in the file, unpacked, at most CHUNK bytes at a time however far it unpacks."""
    if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe would wait for ever
        raise OSError(0, "a directory or device instead of a file")
    with path.open("rb") as stream:
        if path.suffix != ".gz":
            yield from iter(lambda: stream.read(CHUNK), b"")
            return
        unpacker = zlib.decompressobj(wbits=31)  # 31 stands for gzip with its own checksum
        while not unpacker.eof and (packed := unpacker.unconsumed_tail or stream.read(CHUNK)):
            yield unpacker.decompress(packed, CHUNK)
        if not unpacker.eof:
            raise zlib.error("the file ends too early")
