"""What can be set of a sweep: the task's parameters and its own."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.records import Goal
from sweeptrail.search import listed, text
from sweeptrail.search.at_random import AtRandom
from sweeptrail.search.listed import Combination
from sweeptrail.search.problems import GRID, TPE, search_problems
from sweeptrail.search.ranges import Range
from sweeptrail.search.rungs import Rungs
from sweeptrail.search.strategy import Point, Space, Strategy, is_finite, single, varies
from sweeptrail.search.text import Parameter, as_text
from sweeptrail.search.tpe import Tpe
from sweeptrail.sweeps.options import AUTO, OWN, RUNS
from sweeptrail.tasks.task import DEFAULT_TASK, EPOCHS, SEED, Task

OPTIONS = ("task", "space", "resume", "dry_run", "tracking", "tracking_uri", "experiment", "runs_dir")
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

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The hyperparameters that are columns of the results."""
        axes = (each for each in self.task.parameters if each.is_axis)
        return tuple(each.name for each in axes if each.is_column or varies(self.values[each.name]))

    @property
    def seeds(self) -> Sequence[int]:
        """With which each combination of a search is carried out."""
        found: Sequence[int] = self.values[SEED.name]
        return found

    @cached_property
    def space(self) -> Space:
        """What a search chooses from."""
        names = (name for name in self.columns if name != SEED.name)
        return Space({name: self.values[name] for name in names if varies(self.values[name])}, self._are_valid)

    def strategy(self) -> Strategy | None:
        """Return what chooses the combinations; None where all are known."""
        if self.values["search"] == GRID:
            return None
        return (Tpe if self.values["search"] == TPE else AtRandom)(self.space, self.seeds[0])

    def rungs(self) -> Rungs | None:
        """Return after how many epochs runs may be stopped; None where all are whole."""
        if not self.values["stop"]:
            return None
        return Rungs(self.values["min_epochs"], single(self.values[EPOCHS]), self.values["eta"])

    @property
    def tags(self) -> dict[str, str]:
        """The tags that all runs of the sweep are given."""
        pairs = (text.partition("=") for text in self.values["tag"] if text)
        return {name: value for name, _, value in pairs}

    @property
    def size(self) -> int:
        """How many combinations a grid has, those that are not valid among them."""
        return len(self.listed) or prod(len(self.values[name]) for name in self.columns)

    def grid(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return for each valid combination its columns, and what else its run is carried out with."""
        return [(dict(params), dict(fixed)) for params, fixed in self._grid]

    @property
    def is_empty(self) -> bool:
        """Whether no combination is valid, as far as can be seen."""
        if self.values["search"] == GRID:
            return not self._grid
        return AtRandom(self.space, 0).suggest(1, ()) is None

    @cached_property
    def _grid(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        products = product(*(self.values[name] for name in self.columns))
        points = self.listed or (dict(zip(self.columns, values, strict=True)) for values in products)
        combinations = [self.params_of(point) for point in points]
        valid = self._are_valid(combinations)
        return [(each, self.fixed) for each, is_valid in zip(combinations, valid, strict=True) if is_valid]

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """What runs are carried out with beside their columns."""
        return {
            each.name: single(self.values[each.name])
            for each in self.task.parameters
            if each.is_of_run and each.name not in self.columns
        }

    def params_of(self, point: Point, seed: int | None = None) -> dict[str, Any]:
        """Return the columns of the run with this combination, and with this seed if it has several."""
        known = dict(point) if seed is None else {**point, SEED.name: seed}
        return {name: known[name] if name in known else single(self.values[name]) for name in self.columns}

    def point_texts(self, point: Point) -> dict[str, str]:
        """Return a combination as a person would write it, which `read_point` reads back, when more may vary."""
        axes = [each for each in self.task.parameters if each.is_axis and each.name != SEED.name]
        return {each.name: each.value_text(point.get(each.name, single(self.values[each.name]))) for each in axes}

    def read_point(self, texts: Mapping[str, str]) -> Point:
        """Return what was chosen of the combination that was kept as these texts."""
        return {
            each.name: each.value(texts[each.name]) for each in self.task.parameters if each.name in self.space.choices
        }

    def _are_valid(self, points: Sequence[Point]) -> list[bool]:
        return self.task.are_valid([{**self.fixed, **self.params_of(point)} for point in points])

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
    values, problems = text.parse([RUNS], {name: texts[name] for name in texts if name == RUNS.name})
    combinations, mistakes = listed.read_texts(filter(None, values.get(RUNS.name, ())), task.parameters)
    problems = [*mistakes, *listed.conflicts(combinations, texts)]
    values, mistakes = text.parse(parameters_of(task), listed.with_axes(combinations, texts, task.parameters))
    if isinstance(values.get(SEED.name), Range) and is_finite(values[SEED.name]):  # those are counted, never drawn
        values[SEED.name] = tuple(values[SEED.name])
    axes = [each.name for each in task.parameters if each.is_axis]
    problems += [*mistakes, *task.problems(values), *_problems(values), *search_problems(values, axes, combinations)]
    found = Settings(task, values, tuple(combinations))
    if not problems:
        problems += _size_problems(found)
    if problems:
        raise SettingsError(problems)
    return found


def _named_like_options(task: Task) -> Iterator[str]:
    """Yield a sentence for each parameter of the task whose name already means something of the sweep."""
    better = {"workers": "num_workers", "retries": "num_retries"}
    for each in task.parameters:
        if each.name in {own.name for own in OWN} | {*OPTIONS}:
            name = better.get(each.name, f"task_{each.name}")
            yield f"{each.name}: is named like an option of the sweep; rename it, {name} for one"


def _problems(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("run_timeout") and values.get("engine") == "serial":
        yield (
            "run_timeout: a run in this process (engine=serial) cannot be ended from outside; "
            "write engine=processes or engine=ray, or run_timeout=none"
        )


def _size_problems(settings: Settings) -> Iterator[str]:
    if settings["search"] != GRID:
        most = (settings["trials"] or 0) * len(settings.seeds)
        if most > settings["max_runs"]:
            yield (
                f"max_runs: expected at most {settings['max_runs']} runs, got {most} "
                f"(trials {settings['trials']} x seed {len(settings.seeds)}); write fewer, or max_runs={most}"
            )
        return
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
