"""Hyperparameter sweeps tracked by MLflow and TensorBoard, with nothing lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeptrail.manager import RunManager
    from sweeptrail.networks import Network
    from sweeptrail.space import RunBuilder

__version__ = "0.1.0"

__all__ = ["Network", "RunBuilder", "RunManager"]

_HOMES = {"Network": "networks", "RunBuilder": "space", "RunManager": "manager"}


def __getattr__(name: str) -> Any:
    # Looked up when it is used: torch takes 1.5 s, and the command line's help does without it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
