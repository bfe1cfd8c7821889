"""A task's signature is the schema of its hyperparameters."""

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Optional, Union

import pytest

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.search import text
from sweeptrail.tasks.signature import Hyperparameter, read_signature

POSTPONED = '''
from __future__ import annotations
from typing import Literal

def train(manager, *, lr: float = 0.1, depth: int | None = None, kind: Literal["a", "b"] = "a"):
    """Learn something.

    At length.
    """

def lost(manager, *, lr: Absent = 0.1): ...
'''


def module(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, found)
    exec(compile(source, f"{name}.py", "exec", dont_inherit=True), found.__dict__)
    return found


def only(function: Any) -> Hyperparameter:
    [found] = read_signature(function).hyperparameters
    return found


def values(function: Any, written: str) -> Any:
    """Return what a text stands for."""
    parameter = only(function).parameter()
    found = parameter.values(written)
    assert parameter.values(parameter.text(found)) == found, "what is recorded is read back otherwise"
    return found


def boolean(manager: Any, *, it: bool) -> None: ...
def whole(manager: Any, *, it: int) -> None: ...
def real(manager: Any, *, it: float) -> None: ...
def words(manager: Any, *, it: str) -> None: ...
def optional(manager: Any, *, it: Optional[int]) -> None: ...  # noqa: UP045  # the older way to write it counts too
def nullable(manager: Any, *, it: int | None = None) -> None: ...
def nullable_text(manager: Any, *, it: str | None = None) -> None: ...
def mixed(manager: Any, *, it: Union[int, float]) -> None: ...  # noqa: UP007  # the same
def literal(manager: Any, *, it: Literal["sgd", "adam"]) -> None: ...
def numbers(manager: Any, *, it: Literal[1, 2]) -> None: ...
def maybe(manager: Any, *, it: Literal["l1", "l2"] | None = None) -> None: ...
def none_in_literal(manager: Any, *, it: Literal["l1", None] = None) -> None: ...
def any_value(manager: Any, *, it) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def from_whole(manager: Any, *, it=3) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def from_real(manager: Any, *, it=0.5) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def from_truth(manager: Any, *, it=True) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def from_text(manager: Any, *, it="rbf") -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def from_none(manager: Any, *, it=None) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim


@pytest.mark.parametrize(
    ("function", "written", "expected"),
    [
        (boolean, "true,false", (True, False)),
        (whole, "1,-2, 3", (1, -2, 3)),
        (real, "0.1,1e-3,2,-1,inf", (0.1, 0.001, 2.0, -1.0, math.inf)),
        (words, "a,b c", ("a", "b c")),
        (words, '"a,b",c', ("a,b", "c")),
        (words, '"say \\"a\\", then b"', ('say "a", then b',)),
        (words, '""', ("",)),
        (words, '" padded "', (" padded ",)),
        (words, "none,1,true", ("none", "1", "true")),
        (words, "ünï ✓", ("ünï ✓",)),
        (optional, "1,none", (1, None)),
        (nullable, "none,2", (None, 2)),
        (nullable_text, "none,a", (None, "a")),
        (mixed, "1,0.5", (1.0, 0.5)),
        (literal, "adam,sgd", ("adam", "sgd")),
        (numbers, "2,1", (2, 1)),
        (maybe, "l1,none", ("l1", None)),
        (none_in_literal, "none,l1", (None, "l1")),
        (any_value, "2,0.5,true,word", (2, 0.5, True, "word")),
        (from_whole, "1,2", (1, 2)),
        (from_real, "1,0.25", (1.0, 0.25)),
        (from_truth, "false", (False,)),
        (from_text, "linear,1", ("linear", "1")),
        (from_none, "none,1", (None, 1)),
    ],
)
def test_text_becomes_what_the_annotation_or_the_default_says(function: Any, written: str, expected: Any) -> None:
    found = values(function, written)
    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]


@pytest.mark.parametrize(
    ("function", "written", "wanted"),
    [
        (boolean, "yes", "true or false, got 'yes'; write it=true,false"),
        (boolean, "1", "true or false, got '1'"),
        (whole, "1.5", "whole numbers, got '1.5'; write it=1,2"),
        (whole, "1e3", "whole numbers, got '1e3'"),
        (whole, "none", "whole numbers, got 'none'"),
        (whole, "1_000", "whole numbers, got '1_000'"),
        (real, "nan", "numbers, got 'nan'"),
        (real, "1_0.5", "numbers, got '1_0.5'"),
        (real, "big", "numbers, got 'big'; write it=0.1,0.01"),
        (real, "0.1,,0.2", "numbers, got an empty value in '0.1,,0.2'"),
        (real, "", "numbers, got nothing; write it=0.1,0.01"),
        (nullable, "word", "whole numbers, or none, got 'word'"),
        (literal, "Adam", "any of sgd, adam, got 'Adam'; write it=sgd,adam"),
        (maybe, "l3", "any of l1, l2, or none, got 'l3'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_does(function: Any, written: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=r"\Ait: expected ") as refused:
        only(function).parameter().values(written)
    assert wanted in str(refused.value)


@pytest.mark.parametrize(
    ("function", "default"),
    [(from_whole, 3), (from_real, 0.5), (from_truth, True), (from_text, "rbf"), (from_none, None), (nullable, None)],
)
def test_what_is_not_set_has_its_default(function: Any, default: Any) -> None:
    found, problems = text.parse([only(function).parameter()], {})
    assert (found, problems) == ({"it": (default,)}, [])


@pytest.mark.parametrize("default", ["a,b", "", " a", '"', "none", "true", "a=b", "two\nlines"])
def test_any_text_can_be_a_default(default: str) -> None:
    def train(manager: Any, *, it: str = default) -> None: ...

    found, problems = text.parse([only(train).parameter()], {})
    assert (found, problems) == ({"it": (default,)}, [])


@pytest.mark.parametrize("default", [0.1, 1e-300, 1e22, math.inf, -0.0, 123456789.123])
def test_any_number_can_be_a_default(default: float) -> None:
    def train(manager: Any, *, it: float = default) -> None: ...

    found, _ = text.parse([only(train).parameter()], {})
    assert found == {"it": (default,)}


def test_what_has_no_default_must_be_set() -> None:
    found = text.parse([only(whole).parameter()], {})
    assert found == ({}, ["it: expected whole numbers, got nothing; write it=1,2"])


def test_annotations_that_are_text_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_signature(module(POSTPONED, "postponed", monkeypatch).train)
    kinds = [(each.name, each.kind, each.choices, each.may_be_none, each.default) for each in found.hyperparameters]
    assert kinds == [
        ("lr", "float", (), False, 0.1),
        ("depth", "int", (), True, None),
        ("kind", "str", ("a", "b"), False, "a"),
    ]
    assert (found.name, found.meaning) == ("train", "Learn something.")


def test_an_annotation_of_a_name_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="task lost: its signature cannot be read: name 'Absent' is not defined"):
        read_signature(module(POSTPONED, "postponed", monkeypatch).lost)


def listed(manager: Any, *, it: list[int]) -> None: ...
def either(manager: Any, *, it: int | str) -> None: ...
def wrong_default(manager: Any, *, it: int = "a") -> None: ...  # type: ignore[assignment]  # that is the claim
def half_default(manager: Any, *, it: int = 0.5) -> None: ...  # type: ignore[assignment]  # that is the claim
def wrong_choice(manager: Any, *, it: Literal["a"] = "b") -> None: ...  # type: ignore[assignment]  # that is the claim
def odd_default(manager: Any, *, it=()) -> None: ...  # type: ignore[no-untyped-def]  # that is the claim
def nothing() -> None: ...
def positional(manager: Any, lr: float, depth: int = 2) -> None: ...
def everything(manager: Any, **params: Any) -> None: ...
def many(*managers: Any, lr: float = 0.1) -> None: ...
def generator(manager: Any) -> Any:
    yield


async def coroutine(manager: Any) -> None: ...


class Class:
    def __init__(self, manager: Any, *, lr: float) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (listed, "task listed: it: expected a type that can be swept, got list[int]; write bool, int, float, str"),
        (either, "task either: it: expected a type that can be swept, got int | str"),
        (wrong_default, "task wrong_default: it: its default 'a' is not of its type; write one that is"),
        (half_default, "task half_default: it: its default 0.5 is not of its type; write one that is"),
        (wrong_choice, "task wrong_choice: it: its default 'b' is not of its type; write one that is"),
        (odd_default, "task odd_default: it: its default () is not of its type; write one that is"),
        (nothing, "task nothing: expected a parameter for the manager, got none; write def nothing(manager"),
        (positional, "task positional: expected hyperparameters after a *, got lr, depth before it; write def"),
        (everything, "task everything: expected a name for each hyperparameter, got **params; write them out"),
        (many, "task many: expected a name for each hyperparameter, got *managers; write them out"),
        (generator, "task generator: expected a plain function, got one that yields or awaits"),
        (coroutine, "task coroutine: expected a plain function, got one that yields or awaits"),
        (Class, "task Class: expected a function, got a type; write def train(manager)"),
        ("train", "task 'train': expected a function, got a str; write def train(manager)"),
    ],
)
def test_what_is_no_task_is_refused_with_what_to_write(function: Any, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_signature(function)
    assert any(problem.startswith(message) for problem in refused.value.problems)


def test_every_mistake_of_a_signature_is_named() -> None:
    def train(manager: Any, lr: float, *, depth: list[int], kind: dict[str, int], **more: Any) -> None: ...

    with pytest.raises(UsageError) as refused:
        read_signature(train)
    assert len(refused.value.problems) == 4
    assert isinstance(refused.value, SweeptrailError)


def test_the_digest_of_the_source_changes_with_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for name, body in [("first_task", "pass"), ("second_task", "pass"), ("third_task", "return")]:
        (tmp_path / f"{name}.py").write_text(f"def train(manager, *, lr: float = 0.1):\n    {body}\n")
        digests.append(read_signature(__import__(name).train).source_digest)
    assert digests[0] == digests[1] != digests[2]
    assert all(len(digest) == 16 for digest in digests)
