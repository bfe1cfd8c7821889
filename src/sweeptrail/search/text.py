"""Words to values: what a parameter is called, what it may be, and how text becomes that."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeptrail.search.ranges import Range, read_range

LARGEST = 2**53
"""No number here needs to be larger, and up to here every whole number is exact everywhere."""


@dataclass(frozen=True)
class Parameter:
    """One thing that can be set: an option, a parameter of MLproject, a row in the table of settings."""

    name: str
    default: str
    """As a person would write it."""
    parse: Callable[[str], Any]
    """Turns the text of one value into it; raises ValueError."""
    expected: str
    """In words, what the values may be."""
    meaning: str
    example: str = ""
    """A text that is right; the default where there is none."""
    is_axis: bool = False
    """Whether it may be a list: a dimension of the grid."""
    is_column: bool = False
    """Whether it is a column of the results also when it has a single value."""
    is_of_run: bool = True
    """Whether single runs are carried out with it; the others are the sweep's own."""
    changes_numbers: bool = True
    """Whether runs that differ in it alone are different runs."""

    def values(self, text: str) -> Any:
        """Return the value, for an axis the tuple or the Range of values, that a text stands for.

        Raises ValueError, whose text says what came, what was expected and what to write.
        """
        if not (text.strip() or self.default):
            raise ValueError(f"{self.name}: expected {self.expected}, got nothing; {self._cure}")
        if self.is_axis and (found := self._range(text)) is not None:
            return found
        values: list[Any] = []
        for item, is_quoted in _items(text) if self.is_axis else [(text.strip(), False)]:
            if not (item or is_quoted):
                raise ValueError(f"{self.name}: expected {self.expected}, got an empty value in {text!r}; {self._cure}")
            values.append(self.value(item))
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"{self.name}: {twice[0]} is given twice in {text!r}; write each value once")
        return tuple(values) if self.is_axis else values[0]

    def _range(self, text: str) -> Range | None:
        try:
            return read_range(text, self.value)
        except ValueError as error:
            message = str(error)
            raise ValueError(message if message.startswith(f"{self.name}: ") else f"{self.name}: {message}") from None

    def value(self, text: str) -> Any:
        """Return the one value that a text stands for; raises ValueError as `values` does."""
        try:
            return self.parse(text)
        except ValueError:
            raise ValueError(f"{self.name}: expected {self.expected}, got {text!r}; {self._cure}") from None

    def text(self, value: Any) -> str:
        """Return a value as a person would write it, which `values` reads back."""
        if isinstance(value, Range):
            return str(value)
        if self.is_axis:
            return ",".join(self.default_word if item is None else _item_text(item) for item in value)
        return self.value_text(value)

    def value_text(self, value: Any) -> str:
        """Return one value as a person would write it, which `value` reads back."""
        return self.default_word if value is None else _text(value)

    def with_default(self, value: Any) -> "Parameter":
        """Return the same axis, with this single value where nothing is set."""
        return replace(self, default=self.text((value,)))

    @property
    def _cure(self) -> str:
        return f"write {self.name}={self.example or self.default}"

    @property
    def default_word(self) -> str:
        """The word for no value, `auto` for one."""
        return self.parse.word if isinstance(self.parse, OrNone) else self.default


def parse(parameters: Sequence[Parameter], texts: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values that these texts, or else the defaults, stand for, and a line for each mistake.

    One with a mistake is not among the values.
    """
    problems = [unknown_name(parameters, name) for name in texts if name not in {each.name for each in parameters}]
    values: dict[str, Any] = {}
    for parameter in parameters:
        try:
            values[parameter.name] = parameter.values(texts.get(parameter.name, parameter.default))
        except ValueError as error:
            problems.append(str(error))
    return values, problems


def as_text(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Return each value as a person would write it."""
    return {each.name: each.text(values[each.name]) for each in parameters}


def unknown_name(parameters: Iterable[Parameter], name: str) -> str:
    """Return the sentence for a setting that does not exist, with the nearest that does."""
    return f"{name}: there is no such setting{nearest(name, [each.name for each in parameters], 'settings')}"


def nearest(name: str, names: Sequence[str], what: str) -> str:
    """Return the end of a sentence about a name that does not exist: the nearest that does, or all of them."""
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; the {what} are {', '.join(names)}" if names else f"; there are no {what}"


def typed(text: str) -> Any:
    """Return the number or truth value that `str` has made this text of, or else the text."""
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _item_text(value: object) -> str:
    """Return an item of a list, in double quotes where it would be read otherwise without them."""
    text = _text(value)
    needs_quotes = isinstance(value, str) and (not text or text != text.strip() or text[0] == '"' or "," in text)
    return json.dumps(text, ensure_ascii=False) if needs_quotes else text


ITEM = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([^,]*?))\s*(?:,|$)')


def _items(text: str) -> Iterator[tuple[str, bool]]:
    """Yield what the commas separate, and whether it stood in double quotes, in which a comma separates nothing."""
    position = 0
    while position <= len(text):
        found = ITEM.match(text, position)
        assert found, "whatever is no quoted text is a plain one"
        quoted, plain = found.groups()
        yield (json.loads(quoted), True) if quoted else (plain, False)
        position = found.end() + (found.group()[-1:] != ",")


def number(kind: Callable[[str], Any], at_least: float, *, above: bool = False) -> Callable[[str], Any]:
    """Return what reads numbers of this kind from this one on, itself excluded if they must be above it."""

    def parse_number(text: str) -> Any:
        value = kind(text)
        if not at_least <= value <= LARGEST or (above and value == at_least) or "_" in text:
            raise ValueError  # also for nan, which is not between anything
        return value

    return parse_number


def duration(text: str) -> float:
    """Return the seconds that `90`, `90s`, `30m` or `2h` stand for."""
    seconds = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    return float(number(float, 0, above=True)(text[:-1] if seconds else text) * (seconds or 1))


def real(text: str) -> float:
    """Return any number but nan, which is not even itself."""
    value = float(text)
    if value != value or "_" in text:
        raise ValueError
    return value


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """Return what reads one of these words, in capitals or not."""

    def parse_choice(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return parse_choice


def choice(choices: Sequence[Any]) -> Callable[[str], Any]:
    """Return what reads one of these values, as they are written."""
    by_text = {_text(each): each for each in choices}

    def parse_choice(text: str) -> Any:
        if text not in by_text:
            raise ValueError
        return by_text[text]

    return parse_choice


def boolean(text: str) -> bool:
    """Return what `true` or `false` stands for."""
    return {"true": True, "false": False}[one_of(("true", "false"))(text)]


@dataclass(frozen=True)
class OrNone:
    """Reads a word as None, and everything else as another parser does."""

    word: str
    other: Callable[[str], Any]

    def __call__(self, text: str) -> Any:
        return None if text.lower() == self.word else self.other(text)
