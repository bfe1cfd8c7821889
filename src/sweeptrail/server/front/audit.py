"""Who did what, from where, when: a line for each change and each refusal, in a file that is kept to 50 MB."""

import json
import logging
import time
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

SIZE, FILES = 10_000_000, 4

SHOWN = (
    "run_id", "run_uuid", "experiment_id", "experiment_name", "name", "new_name", "version", "alias", "model_id",
    "key", "username", "is_admin", "resource_type", "resource_id", "permission", "status", "source", "path",
)  # fmt: skip
"""What of a request is written down: what it is about. Values, texts and passwords are not."""

LONGEST = 200


class Audit:
    """Writes the log."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        self._log = _Log(path, maxBytes=SIZE, backupCount=FILES, encoding="utf-8")

    def note(self, address: str, name: str, what: str, about: Mapping[str, Any] | None = None) -> None:
        """Write a line; whatever comes from outside stands in it as JSON, without control characters."""
        shown = {key: str(value)[:LONGEST] for key, value in (about or {}).items() if key in SHOWN}
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{when} {address} {json.dumps(name)} {what[:LONGEST]}" + (f" {json.dumps(shown)}" if shown else "")
        text = "".join(letter if letter.isprintable() else "?" for letter in line)
        self._log.emit(logging.makeLogRecord({"msg": text}))


class _Log(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Lose the line: a full disk must not stop the server."""
