"""Who runs what code: the tags that every MLflow run carries."""

import getpass
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeptrail.version import __version__


def context_tags() -> dict[str, str]:
    """Return MLflow's own context tags and the versions of what computes the numbers."""
    commit = _git("rev-parse", "HEAD")
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": _source(sys.argv),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": _git("rev-parse", "--abbrev-ref", "HEAD") if commit else "",
        "version.sweeptrail": __version__,
        **{f"version.{package}": _version(package) for package in ("torch", "mlflow")},
    }
    return {name: value for name, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _source(argv: Sequence[str]) -> str:
    """Return the script that was started; a notebook's kernel and `python -c` have none of their own."""
    return argv[0] if argv and argv[0] not in ("", "-c", "-m") else Path(sys.executable).name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    """Return what git answers about the current folder; nothing where there is no git or no commit."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
