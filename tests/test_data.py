"""Fashion-MNIST is found where it is, and nothing but Fashion-MNIST is taken for it."""

import gzip
import hashlib
import os
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from sweeptrail.errors import DataError
from sweeptrail.fashion_mnist import data
from sweeptrail.fashion_mnist.data import FashionMnist, load

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALLEST = "t10k-labels-idx1-ubyte"


@cache
def published() -> FashionMnist:
    return load()


@cache
def contents() -> dict[str, bytes]:
    """The four files as published, unpacked: each array behind the header that the IDX format gives it."""
    found = published()
    arrays = (found.train_images, found.train_labels, found.test_images, found.test_labels)
    return {
        name: struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
        for name, array in zip(NAMES, arrays, strict=True)
    }


def linked(folder: Path) -> Path:
    """Make `folder` a copy of the data, by links."""
    folder.mkdir(parents=True)
    for name in NAMES:
        source = Path(published().folder, name)
        source = source if source.exists() else source.with_name(f"{name}.gz")
        (folder / source.name).symlink_to(source.absolute())
    return folder


def without(folder: Path, name: str) -> Path:
    for path in folder.glob(f"{name}*"):
        path.unlink()
    return folder


def problems_of(*args: object, **kwargs: object) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        load(*map(str, args), **{name: str(value) for name, value in kwargs.items()})
    return caught.value.problems


def test_the_data_has_the_published_shapes_and_ten_classes_of_equal_size() -> None:
    found = published()
    assert found.train_images.shape == (60_000, 28, 28)
    assert found.test_images.shape == (10_000, 28, 28)
    assert {array.dtype for array in (found.train_images, found.test_images)} == {np.dtype(np.uint8)}
    assert np.bincount(found.train_labels).tolist() == [6000] * 10
    assert np.bincount(found.test_labels).tolist() == [1000] * 10


def test_the_arrays_are_the_files_without_their_headers() -> None:
    hashes = [hashlib.sha256(content).hexdigest() for content in contents().values()]
    assert hashes == [file.sha256 for file in data.FILES]
    assert published().digest == hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def test_plain_and_packed_files_may_be_mixed_and_the_digest_is_the_same(tmp_path: Path) -> None:
    for number, (name, content) in enumerate(contents().items()):
        if number % 2:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)
    found = load(str(tmp_path))
    assert (found.digest, found.folder) == (published().digest, str(tmp_path))
    assert np.array_equal(found.train_images, published().train_images)
    assert np.array_equal(found.test_labels, published().test_labels)


def test_data_dir_may_be_the_folder_that_torchvision_downloads_to(tmp_path: Path) -> None:
    folder = linked(tmp_path / 'it\'s a "folder"\nof ümläuts' / "FashionMNIST" / "raw")
    assert load(str(folder.parent.parent)).folder == str(folder)


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated": ("", lambda content: content[:5000], "got 5000 bytes with SHA-256"),
    "one bit flipped": ("", lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:], "got 10008 b"),
    "wrong magic": ("", lambda content: b"\0\0\x08\x03" + content[4:], "got 10008 bytes with SHA-256"),
    "empty": ("", lambda content: b"", "got 0 bytes with SHA-256"),
    "one byte longer": ("", lambda content: content + b"\0", "got more"),
    "packed under the plain name": ("", gzip.compress, "bytes with SHA-256"),
    "text for gzip": (".gz", lambda content: b"<html>404</html>", "got a damaged gzip file, unpacked up to byte 0"),
    "empty gzip": (".gz", lambda content: b"", "the file ends too early"),
    "truncated gzip": (".gz", lambda content: gzip.compress(content)[:-9], "the file ends too early"),
    "wrong gzip checksum": (".gz", lambda content: gzip.compress(content)[:-8] + bytes(8), "got a damaged gzip file"),
    "truncated, then packed": (".gz", lambda content: gzip.compress(content[:5000]), "got 5000 bytes with SHA-256"),
    "one byte longer, then packed": (".gz", lambda content: gzip.compress(content + b"\0"), "got more"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_with_what_was_expected_and_what_came(kind: str, tmp_path: Path) -> None:
    suffix, damage, came = DAMAGE[kind]
    path = tmp_path / (SMALLEST + suffix)
    path.write_bytes(damage(contents()[SMALLEST]))
    *_, problem, _ = problems_of(tmp_path)
    assert problem.startswith(f"{path}: expected 10008 bytes, unpacked, with SHA-256 0402a96d92fd…, got ")
    assert came in problem


@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda path: path.mkdir(), "a directory or device instead of a file"),
        (os.mkfifo, "a directory or device instead of a file"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: None, "no such file"),
    ],
    ids=["directory", "named pipe", "dangling link", "nothing"],
)
def test_what_is_no_file_is_named(make: Callable[[Path], None], came: str, tmp_path: Path) -> None:
    path = tmp_path / SMALLEST
    make(path)
    *_, problem, _ = problems_of(tmp_path)
    assert problem.startswith(f"{path}: expected 10008 bytes")
    assert came in problem


def test_all_bad_files_are_in_one_error_that_ends_with_the_three_ways_to_get_the_data(tmp_path: Path) -> None:
    folder = without(linked(tmp_path / "data"), "t10k-images")
    train, test = sorted(folder.glob("*labels*"))
    folder.joinpath("swap").symlink_to(train.readlink())
    train.unlink()
    train.symlink_to(test.readlink())
    os.replace(folder / "swap", test)
    *problems, ways = problems_of(folder)
    assert [Path(problem.partition(":")[0]).name.removesuffix(".gz") for problem in problems] == [
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    assert all(way in ways for way in ("torchvision", "apt-get install dataset-fashion-mnist", "data_dir="))


@pytest.mark.slow
def test_a_gzip_file_that_unpacks_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    folder = without(linked(tmp_path / "data"), SMALLEST)
    (folder / f"{SMALLEST}.gz").write_bytes(gzip.compress(bytes(1 << 27), compresslevel=1))
    tracemalloc.start()
    try:
        problem, _ = problems_of(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problem.endswith("got more")
    assert peak < 1.2 * sum(file.size for file in data.FILES)


def test_a_data_dir_without_the_files_is_not_replaced_by_another_place(tmp_path: Path) -> None:
    linked(tmp_path / data.TORCHVISION)
    empty = tmp_path / "empty"
    empty.mkdir()
    *problems, _ = problems_of(empty, download_to=tmp_path)
    assert len(problems) == 4
    assert all(problem.startswith(str(empty)) for problem in problems)


@pytest.mark.parametrize("exists", [True, False])
def test_a_data_dir_that_is_no_folder_is_one_problem(exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if exists:
        path.touch()
    problem, _ = problems_of(path)
    assert problem == f"data_dir: expected a folder with the four files, got {str(path)!r}: " + (
        "a file" if exists else "no such folder"
    )


@pytest.mark.slow
def test_what_torchvision_downloaded_comes_before_what_debian_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DEBIAN", linked(tmp_path / "debian"))
    downloaded = tmp_path / data.TORCHVISION
    downloaded.mkdir(parents=True)
    assert load(download_to=str(tmp_path)).folder == str(tmp_path / "debian"), "an empty folder is no place"
    downloaded.rmdir()
    linked(downloaded)
    assert load(download_to=str(tmp_path)).folder == str(downloaded)


def test_a_damaged_download_is_told_rather_than_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DEBIAN", linked(tmp_path / "debian"))
    without(linked(tmp_path / data.TORCHVISION), NAMES[0])
    problem, _ = problems_of(download_to=tmp_path)
    assert problem.startswith(str(tmp_path / data.TORCHVISION / NAMES[0]))


@cache
def archives() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, compresslevel=1) for name, content in contents().items()}


@contextmanager
def mirror(folder: Path, *, empty: tuple[str, ...] = ()) -> Iterator[None]:
    """Let torchvision download from this machine, where some files may be empty, and let Debian have none."""
    from torchvision.datasets import FashionMNIST

    folder.mkdir()
    for name, archive in archives().items():
        (folder / name).write_bytes(b"" if name in empty else archive)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("no_proxy", "127.0.0.1")
            patch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
            resources = [(name, hashlib.md5(content).hexdigest()) for name, content in archives().items()]
            patch.setattr(FashionMNIST, "resources", resources)
            patch.setattr(data, "DEBIAN", folder / "none")
            yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_data_that_is_nowhere_is_downloaded_and_then_is_there(tmp_path: Path) -> None:
    download_to = tmp_path / "a" / "data"
    with mirror(tmp_path / "mirror"):
        assert load(download_to=str(download_to)).digest == published().digest
    assert [path.name for path in download_to.iterdir()] == ["FashionMNIST"]
    assert load(download_to=str(download_to)).folder == str(download_to / data.TORCHVISION)


def test_a_download_that_breaks_off_says_why_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    with mirror(tmp_path / "mirror", empty=(f"{NAMES[1]}.gz",)):
        problem, ways = problems_of(download_to=tmp_path / "data")
    assert "torchvision could not download it" in problem
    assert f"{NAMES[1]}.gz" in problem
    assert "\n" not in problem
    assert "data_dir=" in ways
    assert list((tmp_path / "data").iterdir()) == []


def test_without_torchvision_the_other_ways_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    problem, ways = problems_of(download_to=tmp_path / "data")
    assert "torchvision.datasets" in problem
    assert "apt-get install" in ways
