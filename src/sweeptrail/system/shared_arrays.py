"""Numpy arrays whose memory all processes of an engine share."""

import io
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeptrail.errors import SweeptrailError

Array = npt.NDArray[Any]


_descriptors: dict[int, int] = {}
"""For each shared array that is alive, by its id, the file without a name that holds its bytes."""


def share(array: Array) -> Array:
    """Return a copy in memory that `pack` hands to other processes; it is freed with its last user, even a killed one.

    Who writes to it gets pages of their own; nobody else sees it. Pickled in any other way, or as a
    slice, it travels with its bytes. Raises ValueError for an array of Python objects.
    """
    if array.dtype.hasobject:
        raise ValueError(f"expected an array of numbers, got one of {array.dtype}; write array.astype(float), say")
    if not array.size:
        return array.copy()
    descriptor = _anonymous_file(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return _kept(_mapped(descriptor, array.dtype, array.shape), descriptor)


def mapped_anew(array: Array) -> Array:
    """Return what a shared array was at first, in a mapping of its own: what was written to the other is not in it.

    An array in memory of others is copied. That of Ray's store is, since torch.from_numpy would write into it.
    """
    if (descriptor := _descriptors.get(id(array))) is None:
        return array.copy()
    return _mapped(descriptor, array.dtype, array.shape)


def _kept(shared: Array, descriptor: int) -> Array:
    """Return the array, whose descriptor is closed when it is gone."""
    _descriptors[id(shared)] = descriptor
    weakref.finalize(shared, _release, id(shared))
    return shared


def _release(number: int) -> None:
    os.close(_descriptors.pop(number))


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


def unpack(descriptors: Sequence[int], *, adopt: bool = False) -> Any:
    """Return the value that was packed; its shared arrays are mapped, not copied.

    With `adopt` this process may `pack` them again; the descriptors are then its own.
    """
    pickled, *arrays = descriptors
    return _Unpickler(os.pread(pickled, os.fstat(pickled).st_size, 0), arrays, adopt).load()


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
        if not isinstance(obj, np.ndarray) or id(obj) not in _descriptors:
            return None
        self.descriptors.append(_descriptors[id(obj)])
        return len(self.descriptors) - 1, obj.dtype, obj.shape


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, descriptors: Sequence[int], adopt: bool) -> None:
        super().__init__(io.BytesIO(pickled))
        self._descriptors = descriptors
        self._adopt = adopt

    def persistent_load(self, pid: Any) -> Array:
        position, dtype, shape = pid
        array = _mapped(self._descriptors[position], dtype, shape)
        return _kept(array, self._descriptors[position]) if self._adopt else array


def _mapped(descriptor: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    # Copy-on-write rather than read-only: torch warns about every array that it may not write to.
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(memory, dtype).reshape(shape)
