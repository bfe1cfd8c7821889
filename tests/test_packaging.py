"""The project's files agree with each other, with what is installed and with MLflow's own readers of them."""

import importlib
import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from mlflow.projects._project_spec import load_project
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sweeptrail import __version__
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.task import DEFAULT_TASK, find_task

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = _PythonEnv.from_conda_yaml(ROOT / "conda.yaml")
"""The environment as MLflow reads it for --env-manager uv and virtualenv; conda itself reads the same file."""

PINS = [Requirement(text) for text in CONDA.dependencies]
TOOLS = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
HEAVY = [Requirement(text) for text in PROJECT["optional-dependencies"]["heavy"]]
EXTRAS = [text for extra in ("torch", "tpe") for text in PROJECT["optional-dependencies"][extra]]
RANGES = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS]]
PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}
MAIN = load_project(ROOT).get_entry_point("main")
SCRIPTS = [
    path
    for path in [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
    if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash\n")
]


@pytest.mark.parametrize(
    "pin", [*PINS, *TOOLS, *(pytest.param(pin, marks=pytest.mark.heavy) for pin in HEAVY)], ids=str
)
def test_a_pin_is_exact_and_is_what_is_installed(pin: Requirement) -> None:
    assert re.fullmatch(r"[\w.-]+==\d[\w.]*", str(pin))
    assert importlib.metadata.version(pin.name) in pin.specifier


def test_each_package_is_pinned_in_one_place() -> None:
    names = [canonicalize_name(pin.name) for pin in PINS + TOOLS + HEAVY]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("wanted", RANGES, ids=str)
def test_the_range_for_users_holds_the_pinned_version(wanted: Requirement) -> None:
    assert wanted.specifier
    assert PINNED[canonicalize_name(wanted.name)] in wanted.specifier


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_whatever_a_pinned_package_needs_is_pinned_too(pin: Requirement) -> None:
    for text in importlib.metadata.requires(pin.name) or []:
        needed = Requirement(text)
        applies_here = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if applies_here and not re.match(r"nvidia-|cuda-|triton$", needed.name):  # torch pins these, for Linux alone
            assert PINNED[canonicalize_name(needed.name)] in needed.specifier


def test_the_environment_has_a_python_that_the_package_accepts() -> None:
    assert CONDA.python in SpecifierSet(PROJECT["requires-python"])


def test_the_environment_is_tied_to_no_checkout() -> None:
    assert not [text for text in CONDA.dependencies if text.startswith("-") or "/" in text]


def test_mlproject_names_the_environment() -> None:
    project = load_project(ROOT)
    assert project.name == PROJECT["name"]
    assert Path(project.env_config_path) == ROOT / "conda.yaml"


def test_the_parameters_of_mlproject_are_the_settings_with_their_defaults() -> None:
    defaults = {name: parameter.default for name, parameter in MAIN.parameters.items()}
    assert [defaults.pop(name) for name in ("task", "space", "resume")] == [DEFAULT_TASK, "", "none"]
    assert defaults.pop("dry_run") == "false"
    assert defaults == {each.name: each.default for each in parameters_of(find_task(DEFAULT_TASK))}


def test_the_command_of_mlproject_passes_every_parameter_on() -> None:
    options = " ".join(f"--{name.replace('_', '-')} {{{name}}}" for name in MAIN.parameters)
    assert MAIN.command == f'PYTHONPATH="src:$PYTHONPATH" python -m sweeptrail sweep {options}'


def test_the_installed_command_is_a_function_of_ours() -> None:
    module, _, function = PROJECT["scripts"]["sweeptrail"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    heading = re.search(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading
    assert __version__ in heading[0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started_and_begins_with_what_it_does(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert re.match(r"#!.*\n# [A-Z].*[.:]", script.read_text())
    subprocess.run(["bash", "-n", script], check=True)


def test_the_scripts_that_people_are_told_of_exist() -> None:
    assert {"check", "run", "setup", "test"} <= {script.name for script in SCRIPTS}
