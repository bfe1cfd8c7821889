"""Anybody's function as a task."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.errors import UsageError, one_line
from sweeptrail.records import Goal, Job
from sweeptrail.search.text import Parameter
from sweeptrail.tasks.code import Code, Importable
from sweeptrail.tasks.shared import digest_of
from sweeptrail.tasks.signature import Signature
from sweeptrail.tasks.task import SEED, THREADS, Prepared, Values
from sweeptrail.tracking import tags

if TYPE_CHECKING:  # matplotlib
    from sweeptrail.results.report.section import Section


@dataclass(frozen=True)
class FunctionTask:
    """Calls a function with hyperparameters; the methods are those of Task."""

    code: Code
    signature: Signature
    make_shared: Callable[[], Mapping[str, Any]] = dict
    """Makes what all runs have in common."""
    valid: Callable[[Sequence[Values]], list[bool]] | None = None
    """Tells which combinations are to be run."""

    packages = ()
    missing_data = ("", "")

    @property
    def name(self) -> str:
        return str(self.code)

    @property
    def title(self) -> str:
        return self.signature.name

    @property
    def source_digest(self) -> str:
        return self.signature.source_digest

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        own = tuple(each.parameter() for each in self.signature.hyperparameters)
        names = {each.name for each in own}
        return (*own, *(each for each in (SEED, THREADS) if each.name not in names))

    @property
    def preload(self) -> Sequence[str]:
        # Never the task's own module: what it does when it is imported, with CUDA for one, need not survive a fork.
        return ("sweeptrail.tasks.mlflow_run", *(("torch",) if self.signature.loads_torch else ()))

    @property
    def preload_export(self) -> Sequence[str]:
        return ()

    def problems(self, values: Values) -> Iterable[str]:
        return ()

    def problems_here(self, values: Values) -> Iterable[str]:
        return ()

    def goal(self, values: Values) -> Goal | None:
        return None

    def prepare(self, values: Values, home: Path) -> Prepared:
        shared = self.make_shared()
        return Prepared(shared, self.title, digest_of(shared), "", {})

    def data_here(self, folder: str) -> str:
        return ""

    def cost(self, values: Values) -> float:
        epochs = values.get("epochs")
        return float(epochs) if isinstance(epochs, int) else 0.0

    def modules(self, values: Values) -> set[str]:
        own = {self.code.module.partition(".")[0]} if isinstance(self.code, Importable) else set()
        return own | {*self.signature.modules}

    def chosen_on(self, job: Job, metric: str) -> str:
        return f"{self.name}, {metric}, {job.tags.get(tags.DATA_DIGEST, '')}"

    def exporter(self, shared: Mapping[str, Any]) -> None:
        return None

    def are_valid(self, combinations: Sequence[Values]) -> list[bool]:
        if not self.valid:
            return [True] * len(combinations)
        names = {each.name for each in self.signature.hyperparameters}
        return self.valid([{name: each[name] for name in each if name in names} for each in combinations])

    def sections(self, shared: Mapping[str, Any], run_folder: Path) -> "Sequence[Section]":
        return ()


def are_valid(valid: Callable[..., Any], combinations: Iterable[Values]) -> list[bool]:
    """Return for each combination what `valid` says to those of its values that it has parameters for.

    Raises UsageError, with the combination, if it raises.
    """
    parameters = inspect.signature(valid).parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = {each.name for each in parameters}
    answers = []
    for combination in combinations:
        wanted = {name: value for name, value in combination.items() if takes_all or name in names}
        try:
            answers.append(bool(valid(**wanted)))
        except Exception as error:
            call = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
            raise UsageError(f"valid({call}) raised {one_line(error)}; write one that returns True or False") from error
    return answers
