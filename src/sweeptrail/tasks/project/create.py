"""Writes a project that trains, passes its own test and runs under `mlflow run` as it is."""

import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from sweeptrail.errors import UsageError
from sweeptrail.system.extras import EXTRA
from sweeptrail.system.files import write_whole
from sweeptrail.version import __version__

TEMPLATES = resources.files("sweeptrail.tasks.project") / "templates"

PACKAGES = ("mlflow", "numpy", "pytest", "scikit-learn", "torch")
"""What the task and its test import, beside sweeptrail."""


def create(folder: Path) -> list[str]:
    """Write the files of a new project and return their names; raises UsageError if one of them is there already."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder, or one to be made, got a file; name another")
    files = dict(_files(folder.absolute().name or "project"))
    if there := sorted(name for name in files if (folder / name).exists() or (folder / name).is_symlink()):
        raise UsageError(f"{folder}: has {', '.join(there)} already, which are not overwritten; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; name another folder") from error
    for name, text in files.items():
        write_whole(folder / name, text)
    return list(files)


def _files(project: str) -> Iterator[tuple[str, str]]:
    words = {
        "@QUOTED_NAME@": json.dumps(project, ensure_ascii=False),
        "@NAME@": project,
        "@PYTHON@": ".".join(platform.python_version_tuple()[:2]),
        "@SWEEPTRAIL@": _sweeptrail(),
        "@PINS@": "\n".join(f"      - {pin}" for pin in _pins()),
    }
    for template in sorted(TEMPLATES.iterdir(), key=lambda each: each.name):
        text = re.sub("@[A-Z_]+@", lambda word: words[word[0]], template.read_text(encoding="utf-8"))
        yield template.name.removesuffix(".template"), text


def _pins() -> Iterator[str]:
    """Yield the packages with the versions that are installed here, those that are not without one."""
    for name in PACKAGES:
        try:
            yield f"{name}=={metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield name


def _sweeptrail() -> str:
    """Return how pip gets this version of sweeptrail, and TensorBoard: from where it was installed (PEP 610)."""
    package = f"sweeptrail[{EXTRA}]"
    try:
        recorded = metadata.distribution("sweeptrail").read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        recorded = None
    if not recorded:
        return f"{package}=={__version__}"
    origin = json.loads(recorded)
    if repository := origin.get("vcs_info"):
        return f"{package} @ {repository['vcs']}+{origin['url']}@{repository['commit_id']}"
    return f"{package} @ {origin['url']}"
