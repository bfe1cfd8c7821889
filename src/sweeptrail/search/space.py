"""Which runs a sweep consists of: Run, RunBuilder."""

import keyword
import re
from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

from sweeptrail.errors import SpaceError

Run = tuple[Any, ...]
"""One combination of hyperparameters: a namedtuple whose class is also called `Run`."""

RESERVED = ("run", "epoch", "loss", "accuracy")
"""Columns of the results table that no hyperparameter may take over."""


@cache
def run_class(names: tuple[str, ...]) -> type[Run]:
    """Return the namedtuple class for these hyperparameters, the same class at every call."""
    cls = namedtuple("Run", names)  # type: ignore[misc]  # the names are known only here
    # A class made inside a function cannot be looked up by pickle; its names can be sent instead.
    cls.__reduce__ = lambda self: (make_run, (names, tuple(self)))  # type: ignore[method-assign, arg-type]  # a class of its own for each set of names
    return cls


def make_run(names: Iterable[str], values: Iterable[Any]) -> Run:
    """Return a Run: `make_run(["lr", "shuffle"], [0.01, True])` is `Run(lr=0.01, shuffle=True)`."""
    return run_class(tuple(names))(*values)


class RunBuilder:
    """Builds the runs of a sweep."""

    @staticmethod
    def get_runs(params: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return one Run for each combination of the values, the last name varying fastest.

        Or one for each mapping of a list, in which each name has its one value.

        >>> RunBuilder.get_runs({"lr": [0.01, 0.001], "shuffle": [True]})
        [Run(lr=0.01, shuffle=True), Run(lr=0.001, shuffle=True)]

        Raises SpaceError, naming every mistake, for a bare string or another value that is no
        list, an empty list, a value given twice, and a name that cannot be an attribute.
        """
        if isinstance(params, list | tuple) and params and all(isinstance(each, Mapping) for each in params):
            return _listed(params)
        if not isinstance(params, Mapping):
            raise SpaceError(
                f"expected a mapping from names to lists of values, got {params!r}; "
                "write OrderedDict(lr=[0.01, 0.001], batch_size=[100])"
            )
        problems = [problem for name, values in params.items() for problem in _problems(name, values)]
        if not params:
            problems.append("no hyperparameters were given; write OrderedDict(lr=[0.01, 0.001])")
        if problems:
            raise SpaceError(problems)
        return [make_run(params, values) for values in product(*params.values())]


def _listed(combinations: Sequence[Mapping[str, Any]]) -> list[Any]:
    names = list(combinations[0])
    problems = [problem for name in names for problem in _name_problems(name)]
    problems += [
        f"combination {number}: expected the names {', '.join(map(str, names))}, got {', '.join(map(str, each))}; "
        "write the same in each"
        for number, each in enumerate(combinations, start=1)
        if each.keys() != combinations[0].keys()
    ]
    if problems or not names:
        raise SpaceError(problems or "no hyperparameters were given; write [{'lr': 0.01}, {'lr': 0.001}]")
    return [make_run(names, (each[name] for name in names)) for each in combinations]


def _problems(name: object, values: object) -> list[str]:
    problems = _name_problems(name)
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or isinstance(values, Mapping):
        return [*problems, f"{name}: expected a list of values, got {values!r}; write [{values!r}] for a single value"]
    values = list(values)
    if not values:
        problems.append(
            f"{name}: expected at least one value, got an empty list; write [0.01], say, or leave {name} out"
        )
    twice = [value for position, value in enumerate(values) if value in values[:position]]
    if twice:
        problems.append(f"{name}: {twice[0]!r} is given twice; write each value once")
    return problems


def _name_problems(name: object) -> list[str]:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        return [f"{name!r}: expected a name that can be an attribute; write letters, digits and _, a letter first"]
    if name in RESERVED:
        return [f"{name}: the results table has a column of that name already; write {name}_value, say"]
    return []


def run_name(index: int, params: Mapping[str, Any]) -> str:
    """Return what a run is called: its number and hyperparameters, fit to be the name of a folder.

    >>> run_name(1, {"lr": 0.01, "shuffle": True})
    '1_lr=0.01,shuffle=True'
    """
    text = ",".join(f"{name}={value}" for name, value in params.items())
    return f"{index}_" + re.sub(r"[^\w.,=+-]", "-", text, flags=re.ASCII)[:150]
