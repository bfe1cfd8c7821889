"""What a run has printed, as its folder keeps it, and the end of that for a person's eyes."""

import re
from pathlib import Path

FILE_NAME = "output.log"

SHOWN_LINES = 10
SHOWN_LENGTH = 200
"""Characters of a line."""

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])")
"""What moves a terminal's cursor, or sets its colours or its title."""


def last_lines(folder: Path) -> list[str]:
    """Return the last lines that a run has printed, safe to be shown; [] if it printed nothing."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4 * SHOWN_LINES * SHOWN_LENGTH))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = (_as_shown(line) for line in text.split("\n"))
    return [line for line in lines if line][-SHOWN_LINES:]


def _as_shown(line: str) -> str:
    """Return what a terminal would show of a line in the end, without what would do something to the terminal."""
    last = ESCAPES.sub("", line).rstrip().rpartition("\r")[2].expandtabs(4)
    return "".join(letter if letter.isprintable() else "�" for letter in last)[:SHOWN_LENGTH]
