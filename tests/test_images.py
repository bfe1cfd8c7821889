"""What becomes of pictures before the network sees them."""

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sweeptrail.errors import UsageError
from sweeptrail.fashion_mnist.evaluation.pictures import read_images

Bytes = NDArray[np.uint8]


def boot() -> Bytes:
    """Return a light shape on black, 28 x 28, which touches no border."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:20, 10:17] = np.arange(7, dtype=np.uint8) * 20 + 100
    picture[20:25, 10:24] = 220
    return picture


def idx(images: Bytes) -> bytes:
    return b"\x00\x00\x08" + bytes([images.ndim]) + struct.pack(f">{images.ndim}I", *images.shape) + images.tobytes()


def saved(tmp_path: Path, image: Image.Image, name: str = "boot.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def transparent(shade: int, mode: str) -> Image.Image:
    """Return the boot in one shade, its strength as the opacity, on nothing."""
    layers = np.full((28, 28, 4), shade, np.uint8)
    layers[..., 3] = np.where(boot() > 0, 255, 0)
    return Image.fromarray(layers).convert(mode)


def test_a_picture_as_the_network_knows_it_is_left_as_it_is(tmp_path: Path) -> None:
    assert np.array_equal(read_images(saved(tmp_path, Image.fromarray(boot()))), boot()[np.newaxis])


def test_a_dark_shape_on_white_is_inverted(tmp_path: Path) -> None:
    assert np.array_equal(read_images(saved(tmp_path, Image.fromarray(255 - boot())))[0], boot())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_colour_and_alpha_and_palettes_become_grey(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(boot()).convert(mode)
    path = saved(tmp_path, image) if mode != "CMYK" else saved(tmp_path, image, "boot.jpg")
    assert np.allclose(read_images(path)[0], boot(), atol=0 if mode != "CMYK" else 40)


def test_sixteen_bits_are_not_clipped_to_eight(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(boot().astype(np.uint16) * 257))
    assert np.array_equal(read_images(path)[0], boot())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("shade", "seen"), [(0, 255), (40, 215), (200, 200), (255, 255)])
def test_what_is_transparent_becomes_the_background(tmp_path: Path, mode: str, shade: int, seen: int) -> None:
    assert np.array_equal(
        read_images(saved(tmp_path, transparent(shade, mode)))[0], np.where(boot() > 0, seen, 0).astype(np.uint8)
    )


@pytest.mark.parametrize(("width", "height"), [(56, 28), (28, 56), (300, 150), (14, 28), (7, 3)])
def test_any_size_is_fitted_with_its_aspect_kept_and_centred(tmp_path: Path, width: int, height: int) -> None:
    """A bar over the whole picture shows where it lands."""
    picture = np.full((height, width), 30, np.uint8)
    picture[height // 3 : height - height // 3, width // 3 : width - width // 3] = 255
    [seen] = read_images(saved(tmp_path, Image.fromarray(picture))).astype(int)
    rows, columns = np.nonzero(seen > 140)
    assert abs((rows.min() + rows.max()) - 27) <= 1
    assert abs((columns.min() + columns.max()) - 27) <= 1
    assert np.ptp(columns) + 1 == pytest.approx(28 * (width - 2 * (width // 3)) / max(width, height), abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(28 * (height - 2 * (height // 3)) / max(width, height), abs=1.5)
    assert seen[0, 0] == seen[-1, -1] == 30


def test_making_a_picture_smaller_leaves_no_pixel_out(tmp_path: Path) -> None:
    stripes = np.zeros((560, 560), np.uint8)
    stripes[10:-10:2] = 200
    [seen] = read_images(saved(tmp_path, Image.fromarray(stripes)))
    assert np.all(np.abs(seen[5:-5].astype(int) - 100) <= 5)


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(boot()).rotate(180).save(tmp_path / "boot.jpg", exif=exif, quality=100)
    assert np.allclose(read_images(tmp_path / "boot.jpg")[0], boot(), atol=10)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_images_of_an_idx_file_are_taken_as_they_are(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    images = np.stack([boot(), 255 - boot(), np.zeros((28, 28), np.uint8)])
    (tmp_path / "images").write_bytes(pack(idx(images)))
    assert np.array_equal(read_images(tmp_path / "images"), images)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int) -> bytes:
    header = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))


def as_file(tmp_path: Path, name: str, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name, **options)  # type: ignore[arg-type]  # each fits its own option
    return (tmp_path / name).read_bytes()


BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "text": (lambda _: b"no picture at all", "expected a PNG, JPEG or IDX file, got something else"),
    "empty": (lambda _: b"", "expected a PNG, JPEG or IDX file, got something else"),
    "a GIF": (lambda path: as_file(path, "x.gif"), "expected a PNG, JPEG or IDX file, got something else"),
    "half a PNG": (lambda path: as_file(path, "x.png")[:5000], "is damaged: "),
    "half a JPEG": (lambda path: as_file(path, "x.jpg")[:2000], "is damaged: "),
    "a changed PNG": (lambda path: as_file(path, "x.png").replace(b"IDAT", b"IDAT\xff", 1), "is damaged: "),
    "a blank PNG": (lambda _: bomb(10), "expected a picture of something, got a single colour"),
    "an 81 megapixel PNG": (lambda _: bomb(9000), "at most 50,000,000 pixels, got 9000 x 9000"),
    "a 100 megapixel PNG": (lambda _: bomb(10_000), "at most 50,000,000 pixels, got more"),
    "a 40 gigapixel PNG": (lambda _: bomb(200_000), "at most 50,000,000 pixels, got more"),
    "an animation": (
        lambda path: as_file(path, "x.png", save_all=True, append_images=[Image.fromarray(boot())]),
        "expected one picture, got 2",
    ),
    "labels": (lambda _: idx(np.zeros(10, np.uint8)), "expected an IDX file with images"),
    "other sizes": (lambda _: idx(np.zeros((2, 32, 32), np.uint8)), "expected 1 to 100000 x 28 x 28, got 2 x 32 x 32"),
    "no images": (lambda _: idx(np.zeros((0, 28, 28), np.uint8)), "got 0 x 28 x 28"),
    "half an IDX": (lambda _: idx(np.zeros((2, 28, 28), np.uint8))[:-1], "expected 1584 bytes for 2 images, got 1583"),
    "half a gzip": (lambda _: gzip.compress(idx(np.zeros((2, 28, 28), np.uint8)))[:-9], "is cut off"),
    "a damaged gzip": (lambda _: gzip.compress(idx(boot()[np.newaxis]))[:-6] + b"\x00" * 6, "is damaged: "),
    "a gzip bomb": (lambda _: gzip.compress(bytes(100_000_000), 1), "unpacks to more than 100000 images"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, expected = BAD[name]
    path = tmp_path / "given"
    path.write_bytes(make(tmp_path))
    with pytest.raises(UsageError) as caught:
        read_images(path)
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert expected in problem
    assert "\n" not in problem


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "missing.png", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=problem):
            read_images(path)


def test_a_photograph_with_a_smaller_copy_of_itself_is_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    picture = Image.fromarray(boot()).resize((112, 112))
    picture.save(path, "MPO", save_all=True, append_images=[picture.resize((56, 56))])
    assert read_images(path).shape == (1, 28, 28)
