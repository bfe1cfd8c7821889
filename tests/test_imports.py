"""What is done as soon as a module has been imported, while other threads import others."""

import importlib
import sys
from contextlib import ExitStack
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import pytest

from sweeptrail.system.imports import when_imported


def test_a_module_is_found_while_another_thread_stops_to_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_meanwhile.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with ExitStack() as listening:

        class OtherThread(MetaPathFinder):
            """Comes in between, at the moment in which each finder is asked in its turn."""

            def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
                listening.close()
                return None

        finders = list(sys.meta_path)
        finders.insert(finders.index(PathFinder), OtherThread())
        monkeypatch.setattr(sys, "meta_path", finders)
        listening.enter_context(when_imported("something_else", lambda: None))
        assert importlib.import_module("found_meanwhile")
    assert sys.meta_path == finders


def test_it_is_done_once_for_the_module_that_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waited_for.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told: list[int] = []
    with when_imported("waited_for", lambda: told.append(sys.modules["waited_for"].value)) as finder:
        importlib.import_module("waited_for")
        importlib.import_module("waited_for")
    assert finder.has_found
    assert told == [1]
    del sys.modules["waited_for"]
    importlib.import_module("waited_for")
    assert told == [1]
