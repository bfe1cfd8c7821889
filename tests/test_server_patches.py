"""The server does not start with an MLflow in which something that it replaces has another name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

EACH_MISSING = """
from importlib import import_module
from operator import attrgetter
from sweeptrail.errors import ServerError
from sweeptrail.server.app import mlflow_patches as patches

patches.check()
for module, names in patches.NAMES.items():
    for name in names:
        owner_name, _, attribute = name.rpartition(".")
        owner = import_module(module)
        owner = attrgetter(owner_name)(owner) if owner_name else owner
        classes = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
        kept = [(each, vars(each)[attribute]) for each in {owner, *classes} if attribute in vars(each)]
        for each, _ in kept:
            delattr(each, attribute)
        try:
            patches.check()
        except ServerError as error:
            print(f"{module}.{name}" in str(error), str(error).count("\\n"))
        else:
            print(f"{module}.{name} was not missed")
        for each, content in kept:
            setattr(each, attribute, content)
patches.check()
"""

START = """
import runpy
from mlflow.server import handlers
del handlers.PresignedUploadMixin
runpy.run_module("sweeptrail.server.app.main", run_name="__main__")
"""

OTHER_VERSION = """
import mlflow.version, runpy
mlflow.version.VERSION = "3.18.0"
runpy.run_module("sweeptrail.server.app.main", run_name="__main__")
"""


def without_assertions(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    store = {"MLFLOW_BACKEND_STORE_URI": "sqlite:///never-made.db", "MLFLOW_ARTIFACTS_DESTINATION": folder.as_uri()}
    command = [sys.executable, "-O", "-W", "ignore", "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environment(**store), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_each_name_that_is_replaced_is_missed_when_it_is_gone(tmp_path: Path) -> None:
    done = without_assertions(EACH_MISSING, tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"True 0"}


def test_a_missing_name_stops_the_start_with_one_line_and_no_table_made(tmp_path: Path) -> None:
    done = without_assertions(START, tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (
        "expected mlflow.server.handlers.PresignedUploadMixin, which the server's guards replace"
        in (done.stderr.splitlines()[-1])
    )
    assert os.listdir(tmp_path) == []


def test_another_version_of_mlflow_stops_the_start(tmp_path: Path) -> None:
    done = without_assertions(OTHER_VERSION, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "MLflow 3.18.0: expected 3.17.x, which the server's guards are made for"
