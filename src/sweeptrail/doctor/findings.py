"""What the doctor finds, in one line each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it unless all is well."""

    mark: Literal["ok", "warning", "problem"]
    what: str
    found: str
    todo: str = ""


def guarded(what: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; one that fails is a finding too."""
    try:
        yield from look()
    except Exception as error:  # the doctor must be able to speak where nothing else works
        came = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        yield Finding("problem", what, f"could not be looked at ({came})", "mend what this says and look again")
