"""What all runs of a task have in common: values by name, arrays in memory that processes share."""

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sweeptrail.errors import UsageError, one_line
from sweeptrail.system.shared_arrays import mapped_anew, share

SMALLEST = 1 << 16
"""Bytes from which on the memory of an array is shared; a smaller one travels with the rest."""

MOST = 240
"""How many arrays may be shared: Linux sends 253 descriptors with one message, which needs some for itself."""

PLAIN = (type(None), bool, int, float, complex, str, bytes)


@dataclass(frozen=True)
class Pickled:
    """A value that only the runs unpickle, each for itself: the driver need not know its class."""

    content: bytes = field(repr=False)
    identity: bytes = field(repr=False)
    """What is the same in every process; the order in a set of texts is not."""


def shared_values(values: Any, what: str) -> dict[str, Any]:
    """Return the values with their arrays, and tensors as arrays, in memory that processes share; also in collections.

    Raises UsageError, beginning with `what`, unless they are a mapping of names to what can be sent to processes.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"{what}: expected a mapping of names to arrays, got a {type(values).__name__}; "
                         'write {"images": images}')  # fmt: skip
    found, count = {}, 0
    for name, value in values.items():
        try:
            count += _shared_arrays(value)
            if count <= MOST:
                found[name] = _changed(value, _as_shared)
        except Exception as error:
            raise UsageError(f"{what}: {name} cannot be sent to other processes: {one_line(error)}") from error
    if count > MOST:
        raise UsageError(f"{what}: expected at most {MOST} large arrays, got {count}; write numpy.stack(arrays)")
    return found


def digest_of(values: Mapping[str, Any]) -> str:
    """Return what tells these values from others, in 16 hexadecimal digits; empty where there are none."""
    digest = hashlib.sha256()
    for piece in _pieces(dict(values)) if values else ():
        digest.update(piece)
    return digest.hexdigest()[:16] if values else ""


def for_one_run(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values as a run sees them: what it does to them, no other run notices."""
    return MappingProxyType({name: _changed(value, _as_own) for name, value in values.items()})


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value, in collections each of their values, as `change` makes it."""
    if type(value) is dict:
        return {name: _changed(each, change) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_changed(each, change) for each in value)
    return change(value)


def _as_shared(value: Any) -> Any:
    plain = value.detach().cpu().numpy() if _is_tensor(value) else value
    if _is_array(plain):
        return share(plain) if plain.nbytes >= SMALLEST or plain.dtype.hasobject else plain.copy()
    if type(plain) in PLAIN:
        return plain
    content = pickle.dumps(plain)
    is_set = isinstance(plain, (set, frozenset))
    return Pickled(content, repr(sorted(map(repr, plain))).encode() if is_set else content)


def _as_own(value: Any) -> Any:
    if isinstance(value, Pickled):
        return pickle.loads(value.content)
    if not _is_array(value):
        return value
    own = mapped_anew(value) if value.nbytes >= SMALLEST else value.copy()
    own.flags.writeable = False
    return own


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield what tells a value from others."""
    import numpy

    if _is_array(value):
        yield f"array {value.dtype} {value.shape} ".encode()
        yield numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8).tobytes() if value.size else b""
    elif type(value) is dict:
        yield f"dict {len(value)} ".encode()
        for name, each in sorted(value.items(), key=lambda item: repr(item[0])):
            yield repr(name).encode() + b" "
            yield from _pieces(each)
    elif type(value) in (list, tuple):
        yield f"{type(value).__name__} {len(value)} ".encode()
        for each in value:
            yield from _pieces(each)
    else:
        yield b"pickled " + value.identity if isinstance(value, Pickled) else f"{value!r} ".encode()


def _shared_arrays(value: Any) -> int:
    if type(value) is dict:
        return sum(map(_shared_arrays, value.values()))
    if type(value) in (list, tuple):
        return sum(map(_shared_arrays, value))
    return int((_is_array(value) or _is_tensor(value)) and value.nbytes >= SMALLEST)


def _is_array(value: Any) -> bool:
    import numpy

    # A subclass is more than its numbers: a masked array would lose its mask.
    return type(value) in (numpy.ndarray, numpy.memmap)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")
