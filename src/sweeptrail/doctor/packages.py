"""What is installed, against what sweeptrail needs."""

import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from sweeptrail.doctor.findings import Finding


def look_at_packages(needs: Iterable[str]) -> Iterator[Finding]:
    """Say what is installed against what sweeptrail needs."""
    from packaging.requirements import Requirement

    good, wrong, wanted = [], [], []
    for needed in map(Requirement, needs):
        version = installed(needed.name)
        if version and needed.specifier.contains(version, prereleases=True):
            good.append(f"{needed.name} {version}")
        else:
            wrong.append(f"{needed.name} {version or 'is missing'} (needed: {needed.specifier})")
            wanted.append(shlex.quote(str(needed)))
    if wrong:
        install = f"{shlex.quote(sys.executable)} -m pip install {' '.join(wanted)}"
        yield Finding("problem", "packages", ", ".join(wrong), install)
    else:
        shown = [package for package in good if package.startswith(("mlflow ", "torch ", "tensorboard "))]
        yield Finding("ok", "packages", f"{', '.join(shown)} and {len(good) - len(shown)} more fit")


def installed(package: str) -> str:
    """Return the version of a package, empty if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def requirements() -> list[str]:
    """Return what sweeptrail needs, each with its range of versions."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    if project.is_file():  # a checkout, which `mlflow run` does not install
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [text for text in metadata.requires("sweeptrail") or [] if "extra ==" not in text]
