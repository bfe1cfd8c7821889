"""What a task's function says of itself: its hyperparameters with their types and defaults, as plain values."""

import hashlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sweeptrail.errors import UsageError
from sweeptrail.records import Value
from sweeptrail.search.text import LARGEST, OrNone, Parameter, boolean, choice, number, real, typed

KINDS: dict[Any, str] = {bool: "bool", int: "int", float: "float", str: "str"}

TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "any": (bool, int, float, str),
}
"""Of the values, by the kind of a hyperparameter."""

EXPECTED = {
    "bool": "true or false",
    "int": "whole numbers",
    "float": "numbers",
    "str": "text",
    "any": "numbers or text",
}
"""In words, by the kind of a hyperparameter."""

EXAMPLES = {"bool": "true,false", "int": "1,2", "float": "0.1,0.01", "str": "a,b", "any": "1,2"}


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword-only parameter of a task."""

    name: str
    kind: str
    """`bool`, `int`, `float`, `str`, or `any` where nothing says what it is."""
    choices: tuple[Value, ...] = ()
    """Of a Literal."""
    may_be_none: bool = False
    has_default: bool = False
    default: Value | None = None

    def parameter(self) -> Parameter:
        """Return what can be set of it, as text."""
        expected = f"any of {', '.join(map(str, self.choices))}" if self.choices else EXPECTED[self.kind]
        parse = self._parse()
        found = Parameter(
            name=self.name,
            default="",
            parse=OrNone("none", parse) if self.may_be_none else parse,
            expected=f"{expected}, or none" if self.may_be_none else expected,
            meaning="a hyperparameter of the task",
            example=",".join(map(str, self.choices)) or EXAMPLES[self.kind],
            is_axis=True,
        )
        return found.with_default(self.default) if self.has_default else found

    def _parse(self) -> Callable[[str], Any]:
        if self.choices:
            return choice(self.choices)
        parsers: dict[str, Callable[[str], Any]] = {
            "bool": boolean,
            "int": number(int, -LARGEST),
            "float": real,
            "str": str,
            "any": typed,
        }
        return parsers[self.kind]


@dataclass(frozen=True)
class Signature:
    """A task as the driver knows it, which need not import it."""

    name: str
    hyperparameters: tuple[Hyperparameter, ...]
    meaning: str = ""
    """The first line of its docstring."""
    source_digest: str = ""
    """Of the source of its module, in 16 hexadecimal digits; empty where there is none."""
    loads_torch: bool = False
    """Whether importing it has loaded torch."""
    has_prepare: bool = False
    has_valid: bool = False


def read_signature(function: Any) -> Signature:
    """Return what a function says of itself; raises UsageError, with every mistake, for one that is no task."""
    name = getattr(function, "__name__", repr(function))
    if not callable(function) or inspect.isclass(function):
        raise UsageError(f"task {name}: expected a function, got a {type(function).__name__}; write def train(manager)")
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"task {name}: its signature cannot be read: {error}") from error
    problems = list(_shape_problems(name, parameters))
    hyperparameters = []
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY:
            try:
                hyperparameters.append(_hyperparameter(each))
            except ValueError as error:
                problems.append(f"task {name}: {error}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        problems.append(f"task {name}: expected a plain function, got one that yields or awaits; call it in there")
    if problems:
        raise UsageError(problems)
    module = sys.modules.get(getattr(function, "__module__", ""))
    return Signature(
        name=name,
        hyperparameters=tuple(hyperparameters),
        meaning=(inspect.getdoc(function) or "").partition("\n")[0],
        source_digest=_source_digest(function, module),
        loads_torch="torch" in sys.modules,
        has_prepare=callable(getattr(module, "prepare", None)),
        has_valid=callable(getattr(module, "valid", None)),
    )


def _shape_problems(name: str, parameters: list[inspect.Parameter]) -> Iterator[str]:
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if not positional:
        yield f"task {name}: expected a parameter for the manager, got none; write def {name}(manager, *, lr=0.01)"
    if further := [each.name for each in positional[1:]]:
        yield (
            f"task {name}: expected hyperparameters after a *, got {', '.join(further)} before it; "
            f"write def {name}({positional[0].name}, *, {', '.join(further)})"
        )
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            stars = "*" if each.kind is each.VAR_POSITIONAL else "**"
            yield f"task {name}: expected a name for each hyperparameter, got {stars}{each.name}; write them out"


def _hyperparameter(parameter: inspect.Parameter) -> Hyperparameter:
    """Raises ValueError for a type or a default that cannot be swept."""
    name, has_default = parameter.name, parameter.default is not parameter.empty
    default = parameter.default if has_default else None
    annotation = parameter.annotation
    if annotation is parameter.empty:
        kind = KINDS.get(type(default), "any") if has_default else "any"
        return _checked(Hyperparameter(name, kind, (), has_default and default is None, has_default, default))
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    wanted = [option for option in options if option not in (None, types.NoneType)]
    may_be_none = len(wanted) < len(options) or (has_default and default is None)
    if len(wanted) == 1 and typing.get_origin(wanted[0]) is Literal:
        choices = typing.get_args(wanted[0])
        return _checked(Hyperparameter(name, "str", choices, may_be_none, has_default, default))
    kinds = {KINDS.get(option) for option in wanted}
    if kinds == {"int", "float"}:
        kinds = {"float"}
    if len(kinds) != 1 or None in kinds:
        raise ValueError(
            f"{name}: expected a type that can be swept, got {annotation!r}; write bool, int, float, str, "
            "Literal[...], or one of them | None"
        )
    return _checked(Hyperparameter(name, str(kinds.pop()), (), may_be_none, has_default, default))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _checked(found: Hyperparameter) -> Hyperparameter:
    """Return it; raises ValueError for a default that is none of its values."""
    if found.has_default and found.default is not None:
        fits = TYPES[found.kind]
        if (found.choices and found.default not in found.choices) or (
            not found.choices and not isinstance(found.default, fits)
        ):
            raise ValueError(f"{found.name}: its default {found.default!r} is not of its type; write one that is")
    return found


def _source_digest(function: Any, module: types.ModuleType | None) -> str:
    for what in (module, function):
        try:
            return hashlib.sha256(inspect.getsource(what).encode()).hexdigest()[:16]  # type: ignore[arg-type]  # raises TypeError for None
        except (OSError, TypeError):
            continue
    return ""
