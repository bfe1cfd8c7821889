"""What a sweep is, as its folder says: the file sweep.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeptrail.errors import SweeptrailError
from sweeptrail.system.files import write_whole

FILE_NAME = "sweep.json"
VERSION = 1

SETTINGS_TAG = "sweeptrail.settings"
"""The tag of the parent run with the same settings as JSON; params of a run cannot be widened later."""


@dataclass(frozen=True)
class KnownRun:
    """A run that a sweep consists of."""

    index: int
    name: str
    key: str
    """A hash of all that changes its numbers."""


@dataclass(frozen=True)
class Description:
    """A sweep, its settings as text, and its runs."""

    identity: str
    created: float
    """Seconds since 1970."""
    tracking_uri: str
    """Without credentials."""
    settings: Mapping[str, str]
    runs: Sequence[KnownRun]

    def write(self, folder: Path) -> None:
        """Keep it in the sweep's folder; raises SweeptrailError when that cannot be written."""
        write_whole(folder / FILE_NAME, json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n")


def read(folder: Path) -> Description:
    """Return the description in a sweep's folder.

    Raises SweeptrailError if there is none, it is damaged, or a later version wrote it.
    """
    path = folder / FILE_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise SweeptrailError(f"{path}: it was written by another version of sweeptrail; resume with that one")
        runs = [KnownRun(**run) for run in content.pop("runs")]
        return Description(**content, runs=runs)
    except OSError as error:
        raise SweeptrailError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SweeptrailError(f"{path}: is damaged: {error}") from error


def sweep_folders(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders of the sweeps below a folder, the oldest first; or that folder, if it is a sweep itself."""
    if (runs_dir / FILE_NAME).is_file():
        yield runs_dir
    elif runs_dir.is_dir():
        yield from sorted(path for path in runs_dir.iterdir() if (path / FILE_NAME).is_file())
