"""What all runs of a task have in common: values by name, arrays in memory that processes share."""

import hashlib
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sweeptrail.errors import UsageError
from sweeptrail.system.shared_arrays import share


def shared_values(values: Any, what: str) -> dict[str, Any]:
    """Return the values with their arrays, and tensors of the CPU as arrays, in memory that processes share.

    Raises UsageError, beginning with `what`, unless they are a mapping of names to what can be sent to processes.
    """
    import numpy

    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"{what}: expected a mapping of names to arrays, got a {type(values).__name__}; "
                         'write {"images": images}')  # fmt: skip
    found = {}
    for name, value in values.items():
        plain = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        try:
            found[name] = share(plain) if isinstance(plain, numpy.ndarray) else pickle.loads(pickle.dumps(plain))
        except Exception as error:
            raise UsageError(f"{what}: {name} cannot be sent to other processes: {error}") from error
    return found


def digest_of(values: Mapping[str, Any]) -> str:
    """Return what tells these values from others, in 16 hexadecimal digits; empty where there are none."""
    import numpy

    if not values:
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        if isinstance(value, numpy.ndarray):
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8).data if value.size else b"")
        else:
            digest.update(name.encode() + pickle.dumps(value, protocol=4))
    return digest.hexdigest()[:16]


def read_only(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values as a run sees them: what one run wrote into an array, the next one would read."""
    import numpy

    seen = {}
    for name, value in values.items():
        seen[name] = value
        if isinstance(value, numpy.ndarray):
            seen[name] = value.view()
            seen[name].flags.writeable = False
    return MappingProxyType(seen)
