"""Hyperparameter sweeps tracked by MLflow and TensorBoard, with nothing lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sweeptrail.version import __version__ as __version__

if TYPE_CHECKING:
    from sweeptrail.fashion_mnist.networks import Network
    from sweeptrail.search.space import RunBuilder
    from sweeptrail.sweeps.call import sweep
    from sweeptrail.training.manager import RunManager

__all__ = ["Network", "RunBuilder", "RunManager", "sweep"]

_HOMES = {
    "Network": "fashion_mnist.networks",
    "RunBuilder": "search.space",
    "RunManager": "training.manager",
    "sweep": "sweeps.call",
}


def __getattr__(name: str) -> Any:
    # Looked up when it is used: torch takes 1.5 s, and the command line's help does without it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Network":
        from sweeptrail.system.extras import need

        need("sweeptrail.Network", "torch")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
