"""Pictures as the network has learned them: 28 x 28, light on black."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sweeptrail.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

Bytes = NDArray[np.uint8]

SIDE = 28
LARGEST = 50_000_000
"""Pixels; a small file may unpack to far more."""
MOST = 100_000
"""Pictures in one IDX file."""

IDX_MAGIC = b"\x00\x00\x08"
"""Unsigned bytes; the number of dimensions follows."""
GZIP_MAGIC = b"\x1f\x8b"


def read_images(path: Path) -> Bytes:
    """Return N x 28 x 28 from a PNG or JPEG file, or from an IDX file, plain or packed as .gz.

    A picture of any size is fitted into the square with its aspect kept, padded with its background. One with
    a bright border is inverted: the network has seen light clothes on black. An IDX file is taken as it is.
    Raises UsageError for what is no picture, damaged, of a single colour, animated, or too large.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if head.startswith((IDX_MAGIC, GZIP_MAGIC)):
        return _read_idx(path, is_packed=head.startswith(GZIP_MAGIC))
    return _fit(path, _read_picture(path))[np.newaxis]


def _read_idx(path: Path, *, is_packed: bool) -> Bytes:
    content = _unpack(path, path.read_bytes()) if is_packed else path.read_bytes()
    if not content.startswith(IDX_MAGIC + b"\x03") or len(content) < 16:
        raise UsageError(f"{path}: expected an IDX file with images (N x 28 x 28 bytes), got something else")
    count, height, width = struct.unpack(">3I", content[4:16])
    if (height, width) != (SIDE, SIDE) or not 1 <= count <= MOST:
        raise UsageError(f"{path}: expected 1 to {MOST} x 28 x 28, got {count} x {height} x {width}")
    if len(content) != 16 + count * SIDE * SIDE:
        raise UsageError(f"{path}: expected {16 + count * SIDE * SIDE} bytes for {count} images, got {len(content)}")
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, SIDE, SIDE)


def _unpack(path: Path, packed: bytes) -> bytes:
    """Return the content of a .gz file, one byte more at most than can be right."""
    unpacker = zlib.decompressobj(wbits=31)  # 31 stands for gzip with its own checksum
    try:
        content = unpacker.decompress(packed, 16 + MOST * SIDE * SIDE + 1)
    except zlib.error as error:
        raise UsageError(f"{path}: is damaged: {error}") from error
    if not unpacker.eof:
        raise UsageError(f"{path}: is cut off, or unpacks to more than {MOST} images")
    return content


def _read_picture(path: Path) -> Bytes:
    """Return H x W, grey."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _check(path, image)
                return _grey(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UsageError(f"{path}: expected a PNG, JPEG or IDX file, got something else") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{path}: expected at most {LARGEST:,} pixels, got more; make it smaller") from error
    except UsageError:
        raise
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:  # Pillow's words for damaged files
        raise UsageError(f"{path}: is damaged: {error}") from error


def _check(path: Path, image: "Image.Image") -> None:
    """Refuse what is not worth unpacking."""
    if image.width * image.height > LARGEST:
        raise UsageError(
            f"{path}: expected at most {LARGEST:,} pixels, got {image.width} x {image.height}; make it smaller"
        )
    # A JPEG with several is a photograph with a smaller copy of itself, or with a map of its depth.
    if image.format == "PNG" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise UsageError(f"{path}: expected one picture, got {frames}; save one of them alone")


def _grey(image: "Image.Image") -> Bytes:
    """Return H x W; what is transparent becomes black or white, whichever the rest stands out from."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        upper: Bytes = np.right_shift(np.asarray(image), 8).astype(np.uint8)
        return upper
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    grey, alpha = np.moveaxis(np.asarray(image.convert("RGBA").convert("LA"), dtype=np.float32), -1, 0)
    background = 0 if np.average(grey, weights=alpha + 1e-6) >= 128 else 255
    blended: Bytes = np.rint(background + (grey - background) * alpha / 255).astype(np.uint8)
    return blended


def _fit(path: Path, grey: Bytes) -> Bytes:
    """Return 28 x 28, light on black."""
    from PIL import Image

    if grey.min() == grey.max():
        raise UsageError(f"{path}: expected a picture of something, got a single colour")
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = np.median(border)
    if background >= 128:
        grey, background = 255 - grey, 255 - background
    height, width = (max(1, round(SIDE * size / max(grey.shape))) for size in grey.shape)
    # Pillow's filters widen when they make a picture smaller, so that no pixel is left out.
    small = np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC))
    square = np.full((SIDE, SIDE), background, np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = small
    return square
