"""How a worker finds the function of a task: by its name, or by value where it has none."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from sweeptrail.errors import UsageError, one_line
from sweeptrail.search.text import nearest
from sweeptrail.system import extras

Function = Callable[..., Any]


class Code(Protocol):
    """Leads to a function in another process."""

    def load(self) -> Function:
        """Return the function; raises UsageError if it cannot be found."""


@dataclass(frozen=True)
class Importable:
    """A function of a module, `digits:train`."""

    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Importable":
        """Return what `MODULE:FUNCTION` stands for; raises UsageError."""
        module, _, name = text.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
            raise UsageError(
                f"task: expected MODULE:FUNCTION, got {text!r}; write digits:train for the function train of digits.py"
            )
        return cls(module, name)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def load(self) -> Function:
        module = import_module(self.module, f"task: expected a module that can be imported, got {str(self)!r}")
        found: Any = module
        try:
            for name in self.name.split("."):
                found = getattr(found, name)
        except AttributeError:
            functions = [name for name, each in vars(module).items() if callable(each) and not name.startswith("_")]
            raise UsageError(
                f"task {self}: {self.module} has no {self.name}{nearest(self.name, functions, 'functions')}"
            ) from None
        function: Function = found
        return function


@dataclass(frozen=True)
class ByValue:
    """A function of a script or a notebook, which no other process can import."""

    name: str
    pickled: bytes = field(repr=False)

    def __str__(self) -> str:
        return f":{self.name}"

    def load(self) -> Function:
        import cloudpickle

        function: Function = cloudpickle.loads(self.pickled)
        return function


@dataclass(frozen=True)
class Local:
    """A function of this process, for runs that are carried out in it."""

    name: str
    function: Function = field(repr=False)

    def __str__(self) -> str:
        return f":{self.name}"

    def load(self) -> Function:
        return self.function


def code_of(function: Function, *, stays_here: bool = False) -> Code:
    """Return how runs find a function, in other processes unless it stays here.

    Raises UsageError for one that cannot be sent to them.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in sys.modules and module != "__main__" and "<locals>" not in name:
        found = Importable(module, name)
        try:
            if found.load() is function:
                return found
        except UsageError:  # made by hand, or replaced since
            pass
    if stays_here:  # what the function does to its surroundings is seen, as where it is called by hand
        return Local(name or repr(function), function)
    import cloudpickle

    try:
        return ByValue(name or repr(function), cloudpickle.dumps(function))
    except Exception as error:
        raise UsageError(
            f"task {name or repr(function)}: it cannot be sent to other processes: {one_line(error)}; "
            "write it in a module of its own, or engine='serial'"
        ) from error


def import_module(name: str, what: str) -> ModuleType:
    """Import a module, the current folder first; raises UsageError that begins with `what`."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()  # the file may be younger than the last look into its folder
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            cure = f"there is no module {error.name}; write it as the file's name without .py, from the file's folder"
        else:
            is_of_extra = isinstance(error, ModuleNotFoundError) and error.name in extras.PACKAGES
            todo = extras.INSTALL if is_of_extra else f"make `import {name}` work"
            cure = f"importing it failed with {one_line(error)}; {todo}"
        raise UsageError(f"{what}; {cure}") from error
