"""What a task is: all that sweeps need to know of what their runs train, found by its name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeptrail.errors import UsageError
from sweeptrail.records import Goal, Job, RunResult
from sweeptrail.search.text import Parameter, number
from sweeptrail.tasks.code import Code

if TYPE_CHECKING:  # matplotlib
    from sweeptrail.results.report.section import Section

Values = Mapping[str, Any]
"""What each parameter was set to."""

BUILT_IN = {"fashion-mnist": "sweeptrail.fashion_mnist.task"}
"""The modules of the tasks that come with this package; each has its task as TASK."""

DEFAULT_TASK = "fashion-mnist"

SEED = Parameter("seed", "0", number(int, 0), "whole numbers from 0", "seed of all random generators", is_axis=True)
THREADS = Parameter(
    "threads", "1", number(int, 1), "a whole number from 1", "threads of one run", changes_numbers=False
)
"""What can be set of every task, whether its function wants to know it or not."""

EPOCHS = "epochs"
"""The hyperparameter that says how far a run goes: it can be sent further later."""


@dataclass(frozen=True)
class Prepared:
    """What all runs of a sweep have in common, made once."""

    shared: Mapping[str, Any]
    """What the runs are handed, by name; it pickles, and its arrays lie in memory that processes share."""
    name: str
    digest: str
    """What the data are, in 16 hexadecimal digits."""
    source: str
    """Where the data lie."""
    profile: Mapping[str, int]
    """How many samples there are of what."""


class Task(Protocol):
    """What runs train. Nothing here loads torch but what is said to be called in a worker."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def title(self) -> str:
        """What people call it; also the registered model's name where nobody gives one."""

    @property
    def source_digest(self) -> str:
        """Of the code that its runs are carried out with; empty where that is part of this package."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What can be set of its runs."""

    @property
    def packages(self) -> Sequence[str]:
        """What must be installed for it and comes with an extra only."""

    @property
    def missing_data(self) -> tuple[str, str]:
        """What is said where the data are not here, and what to do about it."""

    @property
    def preload(self) -> Sequence[str]:
        """The modules that workers import once for all."""

    @property
    def preload_export(self) -> Sequence[str]:
        """The same for those that make models of finished runs."""

    def problems(self, values: Values) -> Iterable[str]:
        """Yield what is wrong between settings that are each right; those with a mistake are not there."""

    def problems_here(self, values: Values) -> Iterable[str]:
        """Yield what the settings ask for and this machine has not."""

    def goal(self, values: Values) -> Goal | None:
        """Return what ranks the runs where nobody has said it; None where that depends on what they log."""

    def prepare(self, values: Values, home: Path) -> Prepared:
        """Return the data, which may be kept below `home`; raises DataError."""

    def data_here(self, folder: str) -> str:
        """Say where the data are, in this folder or else where a sweep looks; empty if it would have to get them.

        Raises DataError for damaged ones.
        """

    def cost(self, values: Values) -> float:
        """Estimate how long a run takes, in any unit."""

    def modules(self, values: Values) -> set[str]:
        """Return the names of the user's own modules that the runs import."""

    def chosen_on(self, job: Job, metric: str) -> str:
        """Return on what data the run was measured by this metric: only there can two values be compared."""

    @property
    def code(self) -> Code:
        """How a worker finds the function."""

    def exporter(self, shared: Mapping[str, Any]) -> Callable[[Job], RunResult] | None:
        """Return the work, for a worker, that makes a model of a finished run; it raises SweeptrailError.

        None where the runs themselves have logged their models.
        """

    def are_valid(self, combinations: Sequence[Values]) -> list[bool]:
        """Return for each combination of hyperparameters whether it is to be run."""

    def sections(self, shared: Mapping[str, Any], run_folder: Path) -> "Sequence[Section]":
        """Return what the report shows of the champion."""


def find_task(name: str) -> Task:
    """Return the task of this name; raises UsageError if there is none."""
    if name not in BUILT_IN:
        raise UsageError(f"task: expected any of {', '.join(BUILT_IN)}, got {name!r}")
    task: Task = import_module(BUILT_IN[name]).TASK
    return task
