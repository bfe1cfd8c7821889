"""Something that is done as soon as a module has been imported."""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_changing = threading.Lock()


@contextmanager
def when_imported(name: str, then: Callable[[], None]) -> Iterator["_Finder"]:
    """Call `then` as soon as the module has been imported, if that happens in the `with` block."""
    finder = _Finder(name, then)
    # A new list each time: out of the one that another thread's import is going through, a finder that is removed makes
    # it pass over the next, so that it finds no module. The courier loads MLflow meanwhile.
    with _changing:
        sys.meta_path = [finder, *sys.meta_path]
    try:
        yield finder
    finally:
        with _changing:
            sys.meta_path = [each for each in sys.meta_path if each is not finder]


class _Finder(MetaPathFinder):
    """Finds one module where the other finders do, and adds something to its execution."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then
        self.has_found = False
        self._here = threading.local()

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name or getattr(self._here, "is_searching", False):
            return None
        self._here.is_searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._here.is_searching = False
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_tell(module: ModuleType) -> None:
                execute(module)
                self._then()

            self.has_found = True
            spec.loader.exec_module = execute_and_tell  # type: ignore[method-assign]  # of this loader alone
        return spec
