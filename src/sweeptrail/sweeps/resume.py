"""With which settings a sweep goes on."""

from collections.abc import Mapping, Sequence

from sweeptrail.errors import SettingsError
from sweeptrail.search.text import Parameter


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
        elif each.is_of_run and each.changes_numbers and _normal(each, text) != had:
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
    return parameter.text((*had, *(value for value in wanted if value not in had)))
