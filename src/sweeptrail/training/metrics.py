"""What a person hands in as a metric, as numbers."""

import posixpath
import re
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"[\w\-. :/]{1,250}", re.ASCII)
"""What MLflow takes as the name of a metric."""

COUNTED = ("epoch_duration", "run_duration")
"""What is measured of every epoch."""


def as_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics as floats: whatever `float` takes but text, tensors and numpy scalars of one element too.

    Raises TypeError, naming it, for anything else, and ValueError for a name that no metric can have.
    """
    for name in metrics:
        if not NAME.fullmatch(name) or not _is_path(name):
            raise ValueError(f"{name!r}: expected a metric's name of letters, digits, _, -, ., :, / and spaces")
        if name in COUNTED:
            raise ValueError(f"{name}: every epoch has a metric of that name already; write {name}_of_mine, say")
    return {name: _number(name, value) for name, value in metrics.items()}


def _is_path(name: str) -> bool:
    """Tell whether it is a path that leads down, and written in no other way than it must be: MLflow takes no other."""
    return posixpath.normpath(name) == name and not name.startswith((".", "/"))


def _number(name: str, value: Any) -> float:
    try:
        plain = value.item() if hasattr(value, "item") else value  # float() of a tensor with a gradient would warn
        if isinstance(plain, (str, bytes)):
            raise TypeError
        return float(plain)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last for a tensor of several elements
        kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise TypeError(
            f"{name}: expected a number, or a tensor or array of one element, got {kind}{shape}; "
            f"write {name}=float(...), say"
        ) from None
