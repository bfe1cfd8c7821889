"""What is installed, against what sweeptrail needs."""

import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sweeptrail.doctor.findings import Finding
from sweeptrail.system.extras import EXTRA

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FOR = "Network, the task fashion-mnist, checkpoints, predict and TensorBoard"
"""What needs the extra."""


def look_at_packages(needs: Iterable[str], of_extra: Iterable[str] = ()) -> Iterator[Finding]:
    """Say what is installed against what sweeptrail needs, and against what its extra brings, which not all miss."""
    good, wrong, wanted = _fitting(needs)
    more, absent, _ = _fitting(of_extra)
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if wrong:
        yield Finding("problem", "packages", ", ".join(wrong), f"{pip} {' '.join(wanted)}")
    else:
        good += more
        shown = [package for package in good if package.startswith(("mlflow ", "torch ", "tensorboard "))]
        yield Finding("ok", "packages", f"{', '.join(shown)} and {len(good) - len(shown)} more fit")
    if absent:
        yield Finding("warning", EXTRA, f"{', '.join(absent)}; for {FOR}", f"{pip} 'sweeptrail[{EXTRA}]'")


def _fitting(needs: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what fits, what does not, each in words, and the latter as pip is told of it."""
    from packaging.requirements import Requirement

    good, wrong, wanted = [], [], []
    for needed in map(Requirement, needs):
        version = installed(needed.name)
        if version and needed.specifier.contains(version, prereleases=True):
            good.append(f"{needed.name} {version}")
        else:
            wrong.append(f"{needed.name} {version or 'is missing'} (needed: {needed.specifier})")
            wanted.append(shlex.quote(str(needed)))
    return good, wrong, wanted


def installed(package: str) -> str:
    """Return the version of a package, empty if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def requirements(extra: str = "") -> list[str]:
    """Return what sweeptrail needs, or what an extra of it brings, each with its range of versions."""
    from packaging.requirements import Requirement

    path = Path(__file__).parents[3] / "pyproject.toml"
    if path.is_file():  # a checkout, which `mlflow run` does not install
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        return list(project["optional-dependencies"][extra] if extra else project["dependencies"])
    found = [Requirement(text) for text in metadata.requires("sweeptrail") or []]
    wanted = [each for each in found if _is_for(each, extra) and not (extra and _is_for(each, ""))]
    return [f"{each.name}{each.specifier}" for each in wanted]


def _is_for(needed: "Requirement", extra: str) -> bool:
    return not needed.marker or needed.marker.evaluate({"extra": extra})
