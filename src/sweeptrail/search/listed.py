"""An explicit list of combinations: each as text, `lr=0.1 hidden=64`, or a line of a CSV file."""

import csv
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.search.text import Parameter, nearest

Combination = Mapping[str, Any]

Numbered = tuple[str, Mapping[str, str]]
"""Where a combination stands, for people, and the text of each of its values."""


def as_text(values: Combination, parameters: Sequence[Parameter]) -> str:
    """Return a combination as text, in the order of the parameters: what is the same looks the same."""
    known = {each.name: each for each in parameters}
    names = sorted(values, key=lambda name: (name not in known, list(known).index(name) if name in known else 0))
    words = (f"{name}={known[name].value_text(values[name]) if name in known else values[name]}" for name in names)
    return shlex.join(words)


def read_texts(texts: Iterable[str], parameters: Sequence[Parameter]) -> tuple[list[Combination], list[str]]:
    """Return the combinations that these texts stand for, and a line for each mistake."""
    problems, numbered = [], []
    for number, text in enumerate(texts, start=1):
        where = f"runs: combination {number}"
        try:
            pairs = [word.partition("=") for word in shlex.split(text)]
        except ValueError as error:
            problems.append(f"{where}: {error} in {text!r}; write lr=0.1 hidden=64")
            continue
        if not pairs or not all(equals for _, equals, _ in pairs):
            problems.append(f"{where}: expected NAME=VALUE, got {text!r}; write lr=0.1 hidden=64, or a file runs.csv")
            continue
        numbered.append((where, {name: value for name, _, value in pairs}))
    found, mistakes = _checked(numbered, parameters)
    return found, problems + mistakes


def read_file(path: Path, parameters: Sequence[Parameter]) -> list[Combination]:
    """Return the combinations in a CSV file, whose first line names the hyperparameters.

    Raises SettingsError with every mistake and its line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, ValueError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"runs: {path} cannot be read as CSV ({what}); write a file whose first line names hyperparameters"
        ) from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise SettingsError(
            f"runs: {path} has no combinations; write names into its first line, values into the others"
        )
    names, problems, numbered = lines[0][1], [], []
    if twice := {name for name in names if names.count(name) > 1}:
        problems.append(f"runs: {path} names {', '.join(sorted(twice))} twice; write one column of each")
    for number, cells in lines[1:]:
        where = f"runs: line {number} of {path.name}"
        if len(cells) != len(names):
            problems.append(f"{where}: expected {len(names)} values, got {len(cells)}; write {', '.join(names)}")
            continue
        numbered.append((where, dict(zip(names, cells, strict=True))))
    found, mistakes = _checked(numbered, parameters)
    if problems or mistakes:
        raise SettingsError(problems + mistakes)
    return found


def conflicts(combinations: Sequence[Combination], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each hyperparameter that is in the list, and set beside it."""
    for name in combinations[0] if combinations else ():
        if name in texts:
            yield f"{name}: is in the list of runs as well; leave out {name}={texts[name]}"


def with_axes(
    combinations: Sequence[Combination], texts: Mapping[str, str], parameters: Iterable[Parameter]
) -> dict[str, str]:
    """Return the texts with the values that the axes have in a list; an axis that is nowhere set has a single one."""
    found = dict(texts)
    for each in (axis for axis in parameters if axis.is_axis and combinations):
        if each.name in combinations[0]:
            found[each.name] = each.text(tuple(dict.fromkeys(one[each.name] for one in combinations)))
        elif each.default and each.name not in texts:
            found[each.name] = each.text(each.values(each.default)[:1])
    return found


def _checked(numbered: Sequence[Numbered], parameters: Sequence[Parameter]) -> tuple[list[Combination], list[str]]:
    known = {each.name: each for each in parameters if each.is_axis}
    names = numbered[0][1].keys() if numbered else set()
    problems = [
        f"runs: {name}: there is no such hyperparameter{nearest(name, list(known), 'hyperparameters')}"
        for name in names
        if name not in known
    ]
    found: dict[tuple[Any, ...], str] = {}
    for where, texts in numbered:
        if texts.keys() != names:
            problems.append(
                f"{where}: expected {', '.join(names)}, got {', '.join(texts)}; write the same names in each"
            )
            continue
        values = []
        for name in (name for name in names if name in known):
            try:
                values.append(known[name].value(texts[name]))
            except ValueError as error:
                problems.append(f"{where}: {error}")
        if (first := found.setdefault(tuple(values), where)) != where:
            problems.append(f"{where} is the same as {first.removeprefix('runs: ')}; write each combination once")
    return [dict(zip(names, values, strict=True)) for values in found] if not problems else [], problems
