"""A part of the page that a task hands in: what only it knows of its champion."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeptrail.results.report.tables import Table
from sweeptrail.system.files import write_whole

FILE_NAME = "sections.json"
"""In the sweep's folder, so that the page can be made again where the data are not."""


@dataclass(frozen=True)
class Picture:
    """A small image with what is to be said of it."""

    source: str
    """A data: address."""
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading with a figure or pictures below it."""

    name: str
    """Of its file among the plots, and in the page."""
    title: str
    note: str = ""
    svg: str = ""
    """As matplotlib draws it, for the page."""
    alternative: str = ""
    """What the figure shows, for those who cannot see it."""
    table: Table | None = None
    """The numbers of the figure."""
    pictures: Sequence[Picture] = ()
    png: bytes = b""
    """For the folder of the plots; not kept with the others."""


def save(sections: Sequence[Section], folder: Path) -> None:
    """Keep the sections in a sweep's folder; raises SweeptrailError when that cannot be written."""
    records = [{name: value for name, value in asdict(section).items() if name != "png"} for section in sections]
    write_whole(folder / FILE_NAME, json.dumps(records) + "\n")


def load(folder: Path) -> tuple[Section, ...]:
    """Return the sections in a sweep's folder; none where they are not, or damaged."""
    try:
        return tuple(_section(record) for record in json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ()


def _section(record: Mapping[str, Any]) -> Section:
    table = Table(**record["table"]) if record["table"] else None
    pictures = tuple(Picture(each["source"], tuple(each["lines"])) for each in record["pictures"])
    return Section(**{**record, "table": table, "pictures": pictures})
