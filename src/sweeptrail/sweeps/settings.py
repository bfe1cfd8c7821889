"""What can be set of a sweep: the task's parameters and its own."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.records import Goal
from sweeptrail.search import listed, text
from sweeptrail.search.listed import Combination
from sweeptrail.search.text import OrNone, Parameter, as_text, boolean, duration, number, one_of
from sweeptrail.tasks.task import DEFAULT_TASK, Task

AUTO = "auto"

NAME = "name"

LONGEST_NOTE = 1000
"""Characters: what stands above the leaderboard leaves it room."""

RESERVED_TAGS = ("sweeptrail.", "mlflow.")

ENGINES = ("processes", "serial", "ray")


def _model_name(name: str) -> str:
    if set(name) & set("/:"):  # MLflow's registry takes none with these
        raise ValueError
    return name


def _folder_name(text: str) -> str:
    name = re.sub(r"[^\w.,=+-]+", "-", text)[:60].strip(".-")
    if name.lower() in ("", "none", "latest"):
        raise ValueError
    return name


def _note(text: str) -> str:
    if len(text) > LONGEST_NOTE:
        raise ValueError
    return text


def _tag(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or name.startswith(RESERVED_TAGS) or not re.fullmatch(r"[\w.\-/: ]{1,250}", name):
        raise ValueError
    return text


def _own(name: str, default: str, parse: Any, expected: str, meaning: str, **more: Any) -> Parameter:
    return Parameter(name, default, parse, expected, meaning, is_of_run=False, **more)


RUNS = _own(
    "runs",
    "none",
    OrNone("none", str),
    "a CSV file whose first line names hyperparameters, or none",
    "a CSV file with an explicit list of combinations: a line of names, then a line for each run",
    example="runs.csv",
    is_axis=True,
)


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
    RUNS,
    _own(
        "max_runs",
        "10000",
        number(int, 1),
        "a whole number from 1",
        "how many runs a sweep may have: more are most likely a mistake",
    ),
    _own(
        NAME,
        AUTO,
        OrNone(AUTO, _folder_name),
        "a name with letters or digits, not latest, or auto",
        "what the sweep's folder and its own run are called; `auto` is the time",
        example="first-try",
    ),
    _own(
        "note",
        "none",
        OrNone("none", _note),
        f"Markdown, {LONGEST_NOTE} characters at most, or none",
        "what the description of the sweep's own run begins with",
        example="a-try-with-small-networks",
    ),
    _own(
        "tag",
        "none",
        OrNone("none", _tag),
        f"KEY=VALUE, no key that begins with {' or '.join(RESERVED_TAGS)}, or none",
        "tags of all runs, `KEY=VALUE`, several separated by commas",
        example="team=vision",
        is_axis=True,
    ),
)


def parameters_of(task: Task) -> tuple[Parameter, ...]:
    """Return all that can be set of a sweep of this task, in the order of the help."""
    return (*task.parameters, *OWN)


@dataclass(frozen=True)
class Settings:
    """Everything that a sweep is carried out with."""

    task: Task
    values: Mapping[str, Any]
    """Of each parameter, an axis as a tuple."""
    listed: Sequence[Combination] = ()
    """The combinations, where they are listed and no grid."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def texts(self) -> dict[str, str]:
        """Each setting as a person would write it, which `parse` reads back."""
        names = self.listed[0].keys() if self.listed else ()
        return as_text((each for each in parameters_of(self.task) if each.name not in names), self.values)

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

    @property
    def tags(self) -> dict[str, str]:
        """The tags that all runs of the sweep are given."""
        pairs = (text.partition("=") for text in self.values["tag"] if text)
        return {name: value for name, _, value in pairs}

    @property
    def size(self) -> int:
        """How many combinations there are, those that are not valid among them."""
        return len(self.listed) or prod(len(self.values[name]) for name in self.columns)

    def grid(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return for each valid combination its columns, and what else its run is carried out with."""
        return [(dict(params), dict(fixed)) for params, fixed in self._grid]

    @cached_property
    def _grid(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        columns = self.columns
        fixed = {
            each.name: self.values[each.name][0] if each.is_axis else self.values[each.name]
            for each in self.task.parameters
            if each.is_of_run and each.name not in columns
        }
        single = {name: self.values[name][0] for name in columns}
        products = product(*(self.values[name] for name in columns))
        points = self.listed or (dict(zip(columns, values, strict=True)) for values in products)
        combinations = [{name: {**single, **point}[name] for name in columns} for point in points]
        valid = self.task.are_valid([{**fixed, **each} for each in combinations])
        return [(each, fixed) for each, is_valid in zip(combinations, valid, strict=True) if is_valid]

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
    values, problems = text.parse([RUNS], {name: texts[name] for name in texts if name == RUNS.name})
    combinations, mistakes = listed.read_texts(filter(None, values.get(RUNS.name, ())), task.parameters)
    problems = [*mistakes, *listed.conflicts(combinations, texts)]
    values, mistakes = text.parse(parameters_of(task), listed.with_axes(combinations, texts, task.parameters))
    problems += [*mistakes, *task.problems(values), *_problems(task, values)]
    found = Settings(task, values, tuple(combinations))
    if not problems:
        problems += _size_problems(found)
    if problems:
        raise SettingsError(problems)
    return found


def _problems(task: Task, values: Mapping[str, Any]) -> Iterator[str]:
    for name in {each.name for each in task.parameters} & {each.name for each in OWN}:
        yield f"task {task.title}: {name} is a setting of every sweep; rename the hyperparameter, to {name}_value say"
    if values.get("run_timeout") and values.get("engine") == "serial":
        yield (
            "run_timeout: a run in this process (engine=serial) cannot be ended from outside; "
            "write engine=processes or engine=ray, or run_timeout=none"
        )


def _size_problems(settings: Settings) -> Iterator[str]:
    lengths = {name: len(settings.values[name]) for name in settings.columns}
    if settings.listed:
        beside = (name for name in lengths.keys() - settings.listed[0].keys() if lengths[name] > 1)
        for name in sorted(beside):
            yield (
                f"{name}: expected a single value beside a list of runs, got {lengths[name]}; "
                f"write one, or a column {name} in the list"
            )
    if settings.size > settings["max_runs"]:
        product_of = " x ".join(f"{name} {length}" for name, length in lengths.items())
        yield (
            f"max_runs: expected at most {settings['max_runs']} runs, got {settings.size} ({product_of}); "
            f"write fewer values, or max_runs={settings.size}"
        )
