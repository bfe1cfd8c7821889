"""What comes with the extra `torch`, and may be missing."""

import sys
from importlib.util import find_spec

from sweeptrail.errors import MissingPackageError

EXTRA = "torch"
INSTALL = f"pip install 'sweeptrail[{EXTRA}]'"
PACKAGES = ("tensorboard", "torch", "torchvision")
"""What that brings."""


def is_installed(package: str) -> bool:
    """Tell whether there is a package, which is not imported."""
    if sys.modules.get(package):
        return True
    found = find_spec(package)
    # A mere folder of that name, `tensorboard` say, has no file of its own: Python takes it for a package too.
    return found is not None and found.origin is not None


def need(what: str, *packages: str) -> None:
    """Raise MissingPackageError, which says how to get them, unless these packages, which `what` needs, are there."""
    if missing := [package for package in packages if not is_installed(package)]:
        are = "is" if len(missing) == 1 else "are"
        raise MissingPackageError(f"{what} needs {' and '.join(missing)}, which {are} not installed: {INSTALL}")
