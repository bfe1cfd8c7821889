"""What a person asks for, as text: a task, what to sweep over, and options."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sweeptrail.sweeps.resume import without_defaults
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
