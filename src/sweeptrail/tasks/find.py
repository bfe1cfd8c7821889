"""The task that a name stands for, or a function of Python's."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from sweeptrail.errors import UsageError
from sweeptrail.tasks.code import Function, Importable, code_of
from sweeptrail.tasks.function import FunctionTask, are_valid
from sweeptrail.tasks.host import Host, prepared
from sweeptrail.tasks.shared import shared_values
from sweeptrail.tasks.signature import read_signature
from sweeptrail.tasks.task import BUILT_IN, Task, find_task


class Finder:
    """Finds tasks by their names; the processes that import their modules live as long as the `with` block."""

    def __enter__(self) -> "Finder":
        self._hosts = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self._hosts.close()

    def __call__(self, name: str) -> Task:
        """Return the task `MODULE:FUNCTION`, or a built-in one; raises UsageError if there is none."""
        if name in BUILT_IN:
            return find_task(name)
        if name.startswith(":"):
            raise UsageError(
                f"task: {name[1:]} was a function of a script or a notebook, which is not stored; "
                f"go on there: sweeptrail.sweep({name[1:]}, ..., resume=FOLDER)"
            )
        code = Importable.parse(name)
        host = self._hosts.enter_context(Host(code))
        signature = host.signature()
        return FunctionTask(
            code,
            signature,
            make_shared=host.prepare if signature.has_prepare else dict,
            valid=host.are_valid if signature.has_valid else None,
        )


def task_of(function: Function, shared: Mapping[str, Any] | None, valid: Any) -> Task:
    """Return a function of this process as a task; raises UsageError for one that is none.

    Where nothing is given, `prepare` and `valid` are those of the function's module, if it has them.
    """
    signature, code = read_signature(function), code_of(function)
    module = sys.modules.get(function.__module__) if isinstance(code, Importable) else None
    prepare: Callable[[], Any] | None = None if shared is None else lambda: shared
    if module and shared is None and callable(getattr(module, "prepare", None)):
        prepare = partial(prepared, module)
    check = valid or getattr(module, "valid", None)
    return FunctionTask(
        code,
        signature,
        make_shared=(lambda: shared_values(prepare(), f"task {signature.name}: shared")) if prepare else dict,
        valid=partial(are_valid, check) if check else None,
    )
