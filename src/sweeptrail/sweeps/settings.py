"""What can be set of a sweep: the task's parameters and its own."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.records import Goal
from sweeptrail.search import text
from sweeptrail.search.text import OrNone, Parameter, as_text, boolean, duration, number, one_of
from sweeptrail.tasks.task import DEFAULT_TASK, Task

AUTO = "auto"

ENGINES = ("processes", "serial", "ray")


def _model_name(name: str) -> str:
    if set(name) & set("/:"):  # MLflow's registry takes none with these
        raise ValueError
    return name


def _own(name: str, default: str, parse: Any, expected: str, meaning: str, *, example: str = "") -> Parameter:
    return Parameter(name, default, parse, expected, meaning, example, is_of_run=False)


OWN = (
    _own(
        "engine",
        ENGINES[0],
        one_of(ENGINES),
        f"any of {', '.join(ENGINES)}",
        "where the runs are carried out: in several `processes`, in this one (`serial`), or on a cluster (`ray`)",
    ),
    _own(
        "workers",
        "auto",
        OrNone("auto", number(int, 1)),
        "a whole number from 1, or auto",
        "how many runs at a time; `auto` is one for each core",
    ),
    _own(
        "retries", "1", number(int, 0), "a whole number from 0", "how often a run is tried again when its process died"
    ),
    _own(
        "run_timeout",
        "none",
        OrNone("none", duration),
        "a time such as 90s, 30m or 2h, or none",
        "how long a run may take: `90s`, `30m`, `2h`; one that takes longer is ended as FAILED",
        example="30m",
    ),
    _own(
        "gpus_per_run",
        "0",
        number(float, 0),
        "a number from 0",
        "how many GPUs Ray keeps for a run; several runs share one when it is less than 1",
        example="0.5",
    ),
    _own(
        "delivery_timeout",
        "10",
        number(float, 0),
        "seconds from 0",
        "seconds to wait at the end for a tracking server that accepts nothing",
    ),
    _own(
        "report", "true", boolean, "true or false", "whether `report.html` is drawn at the end, which takes two seconds"
    ),
    _own(
        "goal",
        "auto",
        OrNone("auto", Goal.parse),
        "max:METRIC or min:METRIC, or auto",
        "what ranks the runs; `auto` is validation accuracy, else accuracy, validation loss, loss",
        example="min:validation_rmse",
    ),
    _own(
        "register",
        AUTO,
        OrNone("none", _model_name),
        "a name without / and :, none or auto",
        "the registered model that the champion becomes a version of, or `none`; `auto` is the task's name",
    ),
    _own(
        "log_models",
        "champion",
        one_of(("champion", "all")),
        "champion or all",
        "of which runs the weights become a model on the tracking server: the `champion`, or `all`",
    ),
)


OPTIONS = ("task", "space", "resume", "tracking", "tracking_uri", "experiment", "runs_dir")
"""What else a command that carries out a sweep is told by options."""


def parameters_of(task: Task) -> tuple[Parameter, ...]:
    """Return all that can be set of a sweep of this task, in the order of the help."""
    return (*task.parameters, *OWN)


@dataclass(frozen=True)
class Settings:
    """Everything that a sweep is carried out with."""

    task: Task
    values: Mapping[str, Any]
    """Of each parameter, an axis as a tuple."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def texts(self) -> dict[str, str]:
        """Each setting as a person would write it, which `parse` reads back."""
        return as_text(parameters_of(self.task), self.values)

    @property
    def goal(self) -> Goal | None:
        """What ranks the runs; None where that depends on what they log."""
        found: Goal | None = self.values["goal"] or self.task.goal(self.values)
        return found

    @property
    def model_name(self) -> str | None:
        """The registered model that the champion becomes a version of."""
        return self.task.title if self.values["register"] == AUTO else self.values["register"]

    @property
    def columns(self) -> tuple[str, ...]:
        """The hyperparameters that are columns of the results."""
        axes = (each for each in self.task.parameters if each.is_axis)
        return tuple(each.name for each in axes if each.is_column or len(self.values[each.name]) > 1)

    def grid(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield for each valid combination its columns, and what else its run is carried out with."""
        fixed = {
            each.name: self.values[each.name][0] if each.is_axis else self.values[each.name]
            for each in self.task.parameters
            if each.is_of_run and each.name not in self.columns
        }
        products = product(*(self.values[name] for name in self.columns))
        combinations = [dict(zip(self.columns, values, strict=True)) for values in products]
        valid = self.task.are_valid([{**fixed, **each} for each in combinations])
        for combination, is_valid in zip(combinations, valid, strict=True):
            if is_valid:
                yield combination, dict(fixed)

    def run_key(self, values: Mapping[str, Any], data_digest: str) -> str:
        """Return what a run is recognised by: a hash of all that changes its numbers."""
        decisive = (each.name for each in self.task.parameters if each.is_of_run and each.changes_numbers)
        of_task = {} if self.task.name == DEFAULT_TASK else {"task": self.task.title}
        text = json.dumps({**{name: values[name] for name in decisive}, **of_task, "data": data_digest}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(texts: Mapping[str, str], task: Task) -> Settings:
    """Return the settings that these texts stand for; names that are absent keep their defaults.

    >>> parse({"lr": "0.1,0.01", "train_samples": "all"}, find_task("fashion-mnist"))["lr"]
    (0.1, 0.01)

    Raises SettingsError with every mistake in every text.
    """
    if clashes := list(_named_like_options(task)):
        raise SettingsError(clashes)
    values, problems = text.parse(parameters_of(task), texts)
    problems += task.problems(values)
    if values.get("run_timeout") and values.get("engine") == "serial":
        problems.append(
            "run_timeout: a run in this process (engine=serial) cannot be ended from outside; "
            "write engine=processes or engine=ray, or run_timeout=none"
        )
    if problems:
        raise SettingsError(problems)
    return Settings(task, values)


def _named_like_options(task: Task) -> Iterator[str]:
    """Yield a sentence for each parameter of the task whose name already means something of the sweep."""
    better = {"workers": "num_workers", "retries": "num_retries"}
    for each in task.parameters:
        if each.name in {own.name for own in OWN} | {*OPTIONS}:
            name = better.get(each.name, f"task_{each.name}")
            yield f"{each.name}: is named like an option of the sweep; rename it, {name} for one"
