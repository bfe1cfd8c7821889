"""What a person asks for, as text: a task, what to sweep over, options; beside what a sweep that goes on has."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.search import listed
from sweeptrail.search.ranges import Range
from sweeptrail.search.strategy import single, varies
from sweeptrail.search.text import Parameter
from sweeptrail.sweeps.options import NAME, RUNS
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.task import DEFAULT_TASK, EPOCHS, SEED, THREADS, Task, find_task

FIXED = (NAME, "search", "stop", "eta", "min_epochs")
"""What a sweep keeps, beside what changes numbers."""


@dataclass(frozen=True)
class Asked:
    """The words of a command, or the parameters of a project."""

    options: Mapping[str, str] = field(default_factory=dict)
    """What is set by `--name text`: settings of the sweep, and those of the built-in task."""
    task: str = ""
    """`MODULE:FUNCTION`, or the name of a built-in task; empty where nobody names one."""
    space: Mapping[str, str] = field(default_factory=dict)
    """What is set by `NAME=VALUES`."""
    problems: Sequence[str] = ()

    def texts(self, task: Task, *, with_defaults: bool) -> tuple[dict[str, str], list[str]]:
        """Return all that is set for this task, and a line for each mistake.

        `with_defaults` says that the options may have been passed without having been set, as MLflow does it.
        """
        built_in = find_task(DEFAULT_TASK)
        options = without_defaults(parameters_of(built_in), self.options) if with_defaults else dict(self.options)
        if task.name == DEFAULT_TASK:
            return {**options, **self.space}, list(self.problems)
        of_all = {SEED.name, THREADS.name}
        foreign = [each.name for each in built_in.parameters if each.name in options and each.name not in of_all]
        problems = [
            f"{name}: is an option of {DEFAULT_TASK}, and the task is {task.name}; "
            f"write {name}={options.pop(name)} behind the task, or in space"
            for name in foreign
        ]
        space = without_defaults(task.parameters, self.space) if with_defaults else self.space
        return {**options, **space}, [*self.problems, *problems]


def with_file_read(texts: Mapping[str, str], task: Task) -> dict[str, str]:
    """Return the texts with the combinations of a CSV file in the place of its name; raises SettingsError."""
    given = texts.get(RUNS.name, RUNS.default)
    if given.lower() == RUNS.default or "=" in given:  # combinations, as they are recorded
        return dict(texts)
    combinations = listed.read_file(Path(given.strip()).expanduser(), task.parameters)
    return {**texts, RUNS.name: RUNS.text([listed.as_text(each, task.parameters) for each in combinations])}


def read_words(words: Sequence[str], *, task: str, space: str, options: Mapping[str, str]) -> Asked:
    """Return what words such as `digits:train lr=0.1,0.01` ask for, beside a task and a space that are given by option.

    An option that nobody knows is a mistake, to be named among the others.
    """
    unknown = {
        word.lstrip("-").partition("=")[0].replace("-", "_"): ""
        for word in words
        if word.startswith("-") and word != "-"
    }
    problems: list[str] = []
    named = [task] if task else []
    pairs: dict[str, str] = {}
    for word in _plain(words, problems, space):
        name, equals, values = word.partition("=")
        if equals and name.isidentifier():
            if name in pairs:
                problems.append(f"{name}: is given twice, {pairs[name]!r} and {values!r}; write each name once")
            pairs[name] = values
        elif ":" in word or (not named and word.replace("-", "_").isidentifier()):
            named.append(word)
        elif not unknown:  # else it may be what the option that nobody knows was to be set to
            problems.append(f"{word!r}: expected NAME=VALUES; write lr=0.1,0.01, its values separated by commas")
    if len(set(named)) > 1:
        problems.append(f"task: expected one, got {' and '.join(named)}; write a sweep for each")
    return Asked(
        {**options, **unknown}, named[0] if named and not (unknown and ":" not in named[0]) else "", pairs, problems
    )


def _plain(words: Sequence[str], problems: list[str], space: str) -> Iterator[str]:
    yield from (word for word in words if not word.startswith("-"))
    try:
        yield from shlex.split(space)
    except ValueError as error:
        problems.append(f"space: {error} in {space!r}; write NAME=VALUES, separated by spaces")


def merged(parameters: Sequence[Parameter], recorded: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a sweep that goes on, from those it had and those that are given now.

    More values of an axis are added to those it had, a range replaces one that lies in it, and more epochs
    go on with the same runs. Raises SettingsError with a line for each setting that would change
    numbers that are there already.
    """
    changes, problems = dict(given), []
    for each in parameters:
        had, text = recorded.get(each.name, each.default if each.name in FIXED else None), given.get(each.name)
        if had is None or text is None:
            continue
        if each.name == EPOCHS and (more := _with_more_epochs(each, had, text)):
            changes[each.name] = more
        elif each.is_axis:
            changes[each.name] = _with_more_values(each, had, text)
        elif ((each.is_of_run and each.changes_numbers) or each.name in FIXED) and _normal(each, text) != had:
            problems.append(
                f"{each.name}: the sweep to resume has {had}, got {text}; leave {each.name} out, or start a new sweep"
            )
    if problems:
        raise SettingsError(problems)
    return {**recorded, **changes}


def without_defaults(parameters: Sequence[Parameter], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that are not what they would be anyway."""
    defaults = {each.name: each.default for each in parameters}
    return {name: text for name, text in texts.items() if text != defaults.get(name)}


def _normal(parameter: Parameter, text: str) -> str:
    """Return the text as it is recorded: `3` for ` 03`. One that cannot be parsed is named as such later."""
    try:
        return parameter.text(parameter.values(text))
    except ValueError:
        return text


def _with_more_values(parameter: Parameter, recorded: str, given: str) -> str:
    had, wanted = _both(parameter, recorded, given)
    if not isinstance(had, Range) and not isinstance(wanted, Range):
        return parameter.text(tuple(dict.fromkeys((*had, *wanted))))
    for inner, outer in ((had, wanted), (wanted, had)):
        if isinstance(outer, Range) and (
            outer.contains(inner) if isinstance(inner, Range) else all(value in outer for value in inner)
        ):
            return parameter.text(outer)
    raise SettingsError(
        f"{parameter.name}: the sweep to resume has {recorded}, got {given}; write a range that it lies in, "
        "or start a new sweep"
    )


def _with_more_epochs(parameter: Parameter, recorded: str, given: str) -> str:
    """Return how many epochs the runs are to have; empty where they are an axis, with runs of their own for each."""
    had, wanted = _both(parameter, recorded, given)
    if varies(had) or varies(wanted) or not isinstance(single(wanted), int) or not isinstance(single(had), int):
        return ""
    if single(wanted) < single(had):
        raise SettingsError(
            f"{parameter.name}: the runs of the sweep to resume have {recorded}, got {given}; write more, "
            "or start a new sweep"
        )
    return given


def _both(parameter: Parameter, recorded: str, given: str) -> tuple[Any, Any]:
    try:
        return parameter.values(recorded), parameter.values(given)
    except ValueError as error:
        raise SettingsError(str(error)) from error
