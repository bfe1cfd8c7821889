"""Looks for what keeps a sweep from working here, and says what to do about it."""

# What may be missing or broken is imported by the look that needs it, which then says so.
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from sweeptrail.doctor.access import Access
from sweeptrail.doctor.findings import Finding, guarded
from sweeptrail.doctor.here import look_at_data, look_at_disk, look_at_records
from sweeptrail.doctor.outbox import look_at_outboxes
from sweeptrail.doctor.packages import look_at_packages, requirements
from sweeptrail.doctor.tracking import look_at_tracking
from sweeptrail.system.extras import EXTRA


def examine(tracking_uri: str, runs_dir: Path, data_dir: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield one finding after the other, each in one line without passwords; whatever is broken, this goes on.

    An empty `tracking_uri` stands for the one of a sweep, an empty `data_dir` for the places where a
    sweep looks. Nothing is downloaded, and nothing is left behind.
    """
    looks: dict[str, Callable[[], Iterable[Finding]]] = {
        "packages": lambda: look_at_packages(requirements(), requirements(EXTRA)),
        "tracking": lambda: look_at_tracking(tracking_uri, environ),
        "data": lambda: look_at_data(data_dir),
        "disk": lambda: look_at_disk(runs_dir),
        "records": lambda: look_at_records(runs_dir),
        "outbox": look_at_outboxes,
    }
    hidden = _secrets(tracking_uri or environ.get("MLFLOW_TRACKING_URI", ""), environ)
    for what, look in looks.items():
        for finding in guarded(what, look):
            yield replace(finding, found=_presentable(finding.found, hidden), todo=_presentable(finding.todo, hidden))


def _secrets(uri: str, environ: Mapping[str, str]) -> list[str]:
    """Return what no line may show, the longest first, so that none is hidden in part only."""
    login = uri.rpartition("@")[0].partition("://")[2]  # urlsplit ends it at a / in the password
    password = login.partition(":")[2]
    found = {login, password, unquote(password), environ.get("MLFLOW_TRACKING_PASSWORD", "")}
    found.add(environ.get("MLFLOW_TRACKING_TOKEN", ""))
    with suppress(Exception):  # the look at the login says so
        found.add(Access.from_environment(environ).password)
    return sorted(found - {""}, key=len, reverse=True)


def _presentable(text: str, hidden: Iterable[str]) -> str:
    """Return the text in one line, without what could be a command of a server's to the terminal."""
    for secret in hidden:
        text = text.replace(secret, "***")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
