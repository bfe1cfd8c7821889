"""Numpy arrays whose memory all processes of an engine share."""

import io
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeptrail.errors import SweeptrailError

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SharedArray:
    """A numpy array that `pack` hands to other processes without copying it.

    Who writes to `array` gets pages of their own; nobody else sees it. Pickled in any other way, it
    travels with its bytes and arrives as an array that is not shared.
    """

    array: Array
    descriptor: int | None = None
    """The file without a name that holds the bytes; None for an array that is not shared."""

    def __reduce__(self) -> tuple[type["SharedArray"], tuple[Array]]:
        return SharedArray, (self.array,)


def share(array: Array) -> SharedArray:
    """Copy the array to memory that other processes can map; it is freed with its last user, even a killed one.

    Raises ValueError for an array of Python objects.
    """
    if array.dtype.hasobject:
        raise ValueError(f"expected an array of numbers, got one of {array.dtype}; write array.astype(float), say")
    if not array.size:
        return SharedArray(array)
    descriptor = _anonymous_file(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    shared = SharedArray(_mapped(descriptor, array.dtype, array.shape), descriptor)
    weakref.finalize(shared, os.close, descriptor)
    return shared


@contextmanager
def pack(value: object) -> Iterator[list[int]]:
    """Yield descriptors from which `unpack` makes the value in a process that they are sent to, in this order.

    Raises SweeptrailError for a value that cannot be pickled.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump(value)
    except Exception as error:
        raise SweeptrailError(
            f"{value!r} cannot be sent to another process: {error}; write a function at the top level of a module"
        ) from error
    pickled = _anonymous_file(buffer.getbuffer())
    try:
        yield [pickled, *pickler.descriptors]
    finally:
        os.close(pickled)


def unpack(descriptors: Sequence[int]) -> Any:
    """Return the value that was packed; its shared arrays are mapped, not copied."""
    pickled, *arrays = descriptors
    return _Unpickler(os.pread(pickled, os.fstat(pickled).st_size, 0), arrays).load()


def _anonymous_file(content: bytes | memoryview) -> int:
    """Return the descriptor of a file without a name that holds the content; the caller closes it."""
    # A file in memory has no size limit of its own; /dev/shm often has 64 MB in a container.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("sweeptrail")
    else:
        with tempfile.TemporaryFile() as temporary:
            descriptor = os.dup(temporary.fileno())
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self.descriptors: list[int] = []

    def persistent_id(self, obj: object) -> tuple[int, np.dtype[Any], tuple[int, ...]] | None:
        if not isinstance(obj, SharedArray) or obj.descriptor is None:
            return None
        self.descriptors.append(obj.descriptor)
        return len(self.descriptors) - 1, obj.array.dtype, obj.array.shape


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, descriptors: Sequence[int]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._descriptors = descriptors

    def persistent_load(self, pid: Any) -> SharedArray:
        position, dtype, shape = pid
        return SharedArray(_mapped(self._descriptors[position], dtype, shape))


def _mapped(descriptor: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    # Copy-on-write rather than read-only: torch warns about every array that it may not write to.
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(memory, dtype).reshape(shape)
