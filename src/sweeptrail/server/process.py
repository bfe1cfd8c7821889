"""A process that is looked after: started, watched, started again when it dies, ended in good order."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from sweeptrail.errors import ServerError
from sweeptrail.system.watchdog import watchdog

LONGEST_PAUSE = 30.0
"""Seconds between two attempts to start a process that dies at once."""

STEADY = 60.0
"""Seconds after which a process that was started again counts as recovered."""

LAST_LINES = 20
"""Of its log, where the reason stands for which a process ended at once."""


GATE = 'read -r _ && exec "$@" </dev/null'
"""Waits for the word to start; where that never comes, since we have died, nothing is started."""


@dataclass
class Service:
    """One process, its log and how to end it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    log: Path
    account: str | None = None
    """Who runs it; None for the one who runs us."""
    stop_signal: int = signal.SIGTERM
    grace: float = 20.0
    """Seconds that it has to end by itself."""
    restarts: int = 0
    process: subprocess.Popen[str] | None = None
    _dog: AbstractContextManager[None] | None = field(default=None, repr=False)
    _started: float = 0.0
    _pause: float = 0.0
    _died: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def start(self) -> None:
        """Start it in a session of its own; it does not outlive us, however we end."""
        whose: dict[str, Any] = (
            {"user": self.account, "group": self.account, "extra_groups": []} if self.account else {}
        )
        self.process = subprocess.Popen(
            ["sh", "-c", GATE, "sh", *self.command],
            env=dict(self.environment),
            cwd="/" if self.account else self.log.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            **whose,
        )
        self._dog = watchdog([-self.process.pid])  # the whole group
        self._dog.__enter__()
        assert self.process.stdin
        with suppress(BrokenPipeError), self.process.stdin as gate:  # killed already: noticed like every other end
            gate.write("\n")
        self._started = time.monotonic()
        threading.Thread(target=self._keep_log, args=(self.process,), daemon=True).start()

    def wait_until_ready(self, seconds: float) -> None:
        """Return when it answers. Raises ServerError, with the end of its log, when it does not."""
        assert self.process
        limit = time.monotonic() + seconds
        while not self.is_ready():
            if self.process.poll() is not None:
                raise ServerError(f"the {self.name} ended at once: {self._last_words()}; see {self.log}")
            if time.monotonic() > limit:
                raise ServerError(f"the {self.name} did not answer within {seconds:.0f} s; see {self.log}")
            time.sleep(0.05)

    def revive(self) -> str:
        """Start it again if it has died and its pause is over; return what happened, empty for nothing."""
        assert self.process
        code = self.process.poll()
        now = time.monotonic()
        if code is None:
            if self._pause and now - self._started > STEADY:
                self._pause = 0.0
            return ""
        if not self._died:
            self._died = now
            self._leave()
            pause = f", starting it again in {self._pause:.0f} s" if self._pause else ", starting it again"
            return f"the {self.name} ended unexpectedly ({_how(code)}){pause}"
        if now - self._died < self._pause:
            return ""
        self._died, self._pause = 0.0, min(max(1.0, self._pause * 2), LONGEST_PAUSE)
        self.restarts += 1
        self.start()
        return f"the {self.name} was started again"

    def stop(self) -> None:
        """End it in good order, or by force when it takes too long."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.grace)
        self._leave()
        self.process.wait()

    def _leave(self) -> None:
        """Let nothing of its group stay."""
        assert self.process
        if self._dog:
            self._dog.__exit__(None, None, None)
            self._dog = None
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(self.process.pid, signal.SIGKILL)

    def _keep_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout, rotating(self.log) as log:
            for line in process.stdout:
                log.emit(logging.makeLogRecord({"msg": line.rstrip("\n")}))

    def _last_words(self) -> str:
        time.sleep(0.2)  # the log is written by a thread
        lines = [line for line in self.log.read_text().splitlines() if line.strip()] if self.log.exists() else []
        errors = [line for line in lines[-LAST_LINES:] if "error" in line.lower()]
        return (errors or lines or ["without a word"])[-1]


class _Log(RotatingFileHandler):
    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Lose the line: a full disk must not stop the process that writes it."""


def rotating(path: Path) -> _Log:
    """Return a log that is kept to 20 MB, readable by its owner only."""
    if not path.exists():
        path.touch(mode=0o600)
    return _Log(path, maxBytes=10_000_000, backupCount=1)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
