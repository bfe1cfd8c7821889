"""What a person asks for, as text: a task, what to sweep over, options; beside what a sweep that goes on has."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.errors import SettingsError
from sweeptrail.search import listed
from sweeptrail.search.text import Parameter
from sweeptrail.sweeps.options import NAME, RUNS
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.function import SEED, THREADS
from sweeptrail.tasks.task import DEFAULT_TASK, Task, find_task


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

    More values of an axis are added to those it had. Raises SettingsError with a line for each
    setting that would change numbers that are there already.
    """
    changes, problems = dict(given), []
    for each in parameters:
        if each.name not in given or each.name not in recorded:
            continue
        had, text = recorded[each.name], given[each.name]
        if each.is_axis:
            changes[each.name] = _with_more_values(each, had, text)
        elif ((each.is_of_run and each.changes_numbers) or each.name == NAME) and _normal(each, text) != had:
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
    try:
        had, wanted = parameter.values(recorded), parameter.values(given)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return parameter.text(tuple(dict.fromkeys((*had, *wanted))))
