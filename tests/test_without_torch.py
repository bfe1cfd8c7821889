"""Without the extra `torch` all works that needs none of it, and what needs it says in one line how to get it."""

import json
import pickle
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any
from venv import EnvBuilder

import pytest
from packaging.requirements import Requirement

import sweeptrail
from sweeptrail.doctor import packages
from sweeptrail.errors import MissingPackageError, UsageError
from sweeptrail.system import extras
from sweeptrail.system.extras import is_installed, need
from sweeptrail.tasks.code import import_module
from sweeptrail.training import models
from sweeptrail.training.sinks.checkpoint import Checkpoint
from sweeptrail.training.sinks.group import Sinks
from tests.commands import family, new_store, start
from tests.waiting import PATIENCE

INSTALL = "pip install 'sweeptrail[torch]'"

NEED_IT = {
    "fashion_mnist.batches",
    "fashion_mnist.evaluation.predict",
    "fashion_mnist.kernels",
    "fashion_mnist.model",
    "fashion_mnist.networks",
    "fashion_mnist.steps",
    "fashion_mnist.train",
    "training.pt2",
    "training.sinks.first_batch",
    "training.sinks.network_events",
    "training.sinks.tensorboard",
}
"""The modules that cannot be imported without it."""

TASK = """
from sklearn.datasets import load_digits
from sklearn.svm import SVC

def fit(manager, *, C: float = 1.0):
    x, y = load_digits(return_X_y=True)
    manager.log(validation_accuracy=SVC(C=C).fit(x[:300], y[:300]).score(x[300:400], y[300:400]))
"""


class Stateful:
    """As much of a network as is looked at."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def forward(self) -> None: ...


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an environment that has all that this one has, but for the extra; return its Python."""
    home = tmp_path_factory.mktemp("without-torch")
    EnvBuilder(symlinks=True).create(home)
    there = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith((*extras.PACKAGES, "functorch")):
            (there / package.name).symlink_to(package)
    return str(home / "bin" / "python")


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process believe that there is nothing of the extra."""
    monkeypatch.setattr(extras, "is_installed", lambda package: package not in extras.PACKAGES)


def scripted(python: str, source: str, folder: Path) -> Any:
    """Run a script without torch, and return what its last line says as JSON."""
    (folder / "script.py").write_text(source)
    done = start(python, "script.py", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


COMMANDS = """
import json
from click.testing import CliRunner
from sweeptrail.cli import main

done = [CliRunner().invoke(main, words.split()) for words in {commands!r}]
print(json.dumps([[each.exit_code, each.stdout, each.stderr] for each in done]))
"""


def commands(python: str, folder: Path, *lines: str) -> list[tuple[int, str, str]]:
    """Return exit code, output and errors of `sweeptrail WORDS` for each line of words."""
    return [tuple(each) for each in scripted(python, COMMANDS.format(commands=lines), folder)]


IMPORTS = """
import importlib, json
from pathlib import Path
import sweeptrail

source, missed = Path(sweeptrail.__file__).parent, []
for path in source.rglob("*.py"):
    name = ".".join(path.relative_to(source).with_suffix("").parts)
    try:
        name == "__main__" or importlib.import_module(f"sweeptrail.{name}")
    except ModuleNotFoundError as error:
        assert error.name in ("torch", "tensorboard"), error
        missed.append(name)
print(json.dumps(missed))
"""


@pytest.mark.slow
def test_only_what_trains_networks_or_writes_event_files_cannot_be_imported(python: str, tmp_path: Path) -> None:
    assert set(scripted(python, IMPORTS, tmp_path)) == NEED_IT


@pytest.mark.slow
def test_a_command_that_needs_it_says_so_in_one_line(python: str, tmp_path: Path) -> None:
    torch = ("predict model boot.png", "sweep --epochs 1", "sweep fashion-mnist --engine serial", "sweep --dry-run")
    *done, shown, begun = commands(python, tmp_path, *torch, "tensorboard", "--help", "init project")
    needs = ["sweeptrail predict needs torch", *["the task fashion-mnist needs torch"] * 3]
    for (code, output, errors), what in zip(done, [*needs, "sweeptrail tensorboard needs tensorboard"], strict=True):
        assert (code, output, errors) == (2, "", f"error: {what}, which is not installed: {INSTALL}\n")
    assert shown[0] == begun[0] == 0
    assert f"its task needs torch, which is not installed: {INSTALL}" in begun[1]


@pytest.mark.slow
def test_a_task_that_needs_no_torch_is_swept_with_all_but_event_files(python: str, tmp_path: Path) -> None:
    (tmp_path / "svm.py").write_text(TASK)
    new_store(tmp_path)
    words = ("svm:fit", "C=0.1,1", "--register", "none", "--delivery-timeout", str(PATIENCE))
    done = start(python, "-m", "sweeptrail", "sweep", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "TensorBoard" not in done.stdout + done.stderr
    assert "torch" not in done.stderr
    parent, runs = family(tmp_path)
    assert [run.info.status for run in (parent, *runs)] == ["FINISHED"] * 3
    assert parent.data.tags["sweeptrail.champion"] == runs[1].info.run_name
    [folder] = (tmp_path / "runs").iterdir()
    assert (folder / "report.html").exists()
    assert not list(folder.rglob("*tfevents*"))

    looks = ["status runs", "compare", "sync runs", "reap runs", "doctor"]
    seen = dict(zip(looks, commands(python, tmp_path, *looks), strict=True))
    assert {look: code for look, (code, _, _) in seen.items()} == dict.fromkeys(looks, 0)
    assert "2 FINISHED  all delivered" in seen["status runs"][1]
    assert f"{str(runs[1].info.run_name).partition('_')[2]} is " in seen["compare"][1]
    marks = {line.split()[1]: line.split()[0] for line in seen["doctor"][1].splitlines()}
    assert (marks["packages"], marks["torch"]) == ("ok", "warning")
    assert f"-m {INSTALL}\n" in seen["doctor"][1]


CALLS = """
import json
import sweeptrail
from sweeptrail import RunBuilder, RunManager

def train(manager, *, lr: float = 0.1):
    for epoch in manager.epochs(2):
        manager.log(score=lr * epoch)

told = {}
for engine in ("serial", "processes"):
    outcome = sweeptrail.sweep(train, {"lr": [0.1, 0.2]}, goal="max:score", engine=engine, register="none")
    told[engine] = [outcome.exit_code, outcome.champion.params["lr"]]

manager = RunManager()
for run in RunBuilder.get_runs({"lr": [0.1, 0.2]}):
    manager.begin_run(run, None, None)
    try:
        manager.tb
    except ImportError as error:
        told["tb"] = str(error)
    for epoch in range(2):
        manager.begin_epoch()
        manager.track_loss(run.lr)
        manager.end_epoch(score=run.lr)
    manager.end_run()
manager.save("results")
told["rows"] = len(manager.run_data)

try:
    from sweeptrail import Network
except ImportError as error:
    told["Network"] = [type(error).__name__, str(error)]
try:
    sweeptrail.sweep("fashion-mnist", {"lr": [0.1]})
except ImportError as error:
    told["built-in"] = str(error)
print(json.dumps(told))
"""


@pytest.mark.slow
def test_in_python_too_only_what_needs_it_misses_it(python: str, tmp_path: Path) -> None:
    new_store(tmp_path)
    told = scripted(python, CALLS, tmp_path)
    assert told == {
        "serial": [0, 0.2],
        "processes": [0, 0.2],
        "tb": f"RunManager.tb needs torch and tensorboard, which are not installed: {INSTALL}",
        "rows": 4,
        "Network": ["MissingPackageError", f"sweeptrail.Network needs torch, which is not installed: {INSTALL}"],
        "built-in": f"the task fashion-mnist needs torch, which is not installed: {INSTALL}",
    }
    assert (tmp_path / "results.csv").exists()
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 2


@pytest.mark.usefixtures("_not_installed")
def test_state_that_cannot_be_kept_is_an_error_and_no_state_is_none(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tmp_path), key="key")
    with pytest.raises(MissingPackageError, match=r"epochs\(\): keeping network, order in a checkpoint needs torch, "):
        checkpoint.restore({"network": Stateful(), "order": Stateful()}, None)
    manager = sweeptrail.RunManager([checkpoint])
    with manager.run(sweeptrail.RunBuilder.get_runs({"lr": [0.1]})[0], None, None):  # type: ignore[arg-type]  # no network
        assert list(manager.epochs(2)) == [1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_not_installed")
def test_a_network_cannot_be_logged_and_a_model_s_folder_can(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match="log_model: a network needs torch, "):
        models.write(Stateful(), [[1.0], [2.0]], tmp_path, 0.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "MLmodel").write_text("flavors: {}\n")
    assert models.write(tmp_path / "mine", None, tmp_path / "run", 0.0) == [
        (tmp_path / "run" / "model" / "MLmodel", "model")
    ]


def test_an_error_of_a_missing_package_is_a_usage_error_and_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    need("nothing")
    need("all", *extras.PACKAGES)
    with pytest.raises(ImportError) as caught:
        need("a thing", "torch", "no_such_package")
    assert str(caught.value) == f"a thing needs no_such_package, which is not installed: {INSTALL}"
    assert isinstance(caught.value, UsageError)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    monkeypatch.setattr(extras, "is_installed", lambda package: False)
    with pytest.raises(ImportError, match="tb needs torch and tensorboard, which are not installed"):
        _ = Sinks([]).writer


def test_a_folder_of_the_same_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "event_files_of_mine").mkdir()
    assert not is_installed("event_files_of_mine")
    (tmp_path / "event_files_of_mine" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))  # forgets what was seen there
    assert is_installed("event_files_of_mine")


def test_a_module_of_one_s_own_that_imports_torch_is_told_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("wants_torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')\n")
    Path("wants_other.py").write_text("import no_such_package\n")
    with pytest.raises(UsageError, match=r"No module named torch; pip install 'sweeptrail\[torch\]'"):
        import_module("wants_torch", "task")
    with pytest.raises(UsageError, match="make `import wants_other` work"):
        import_module("wants_other", "task")


def test_the_doctor_warns_of_what_the_extra_would_bring() -> None:
    fits, lacks = packages.look_at_packages(["click>=8"], ["no-such-package>=1", "pytest>=1000", "click>=8"])
    assert (fits.mark, lacks.mark, lacks.what) == ("ok", "warning", "torch")
    assert lacks.found.startswith(f"no-such-package is missing (needed: >=1), pytest {pytest.__version__} (needed")
    assert lacks.todo.endswith(f" -m {INSTALL}")


def test_what_is_installed_says_of_its_extra_what_the_project_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    base, torch = packages.requirements(), packages.requirements(extras.EXTRA)
    assert {text.partition(">")[0] for text in torch} == {*extras.PACKAGES}
    assert not {text.partition(">")[0] for text in base} & {*extras.PACKAGES}
    recorded = [*base, *(f"{text}; extra == 'torch'" for text in torch), "ray>=2; extra == 'ray'"]
    monkeypatch.setattr(packages, "__file__", str(Path("nowhere", "a", "b", "c", "packages.py")))
    monkeypatch.setattr(metadata, "requires", lambda package: recorded)
    for extra, wanted in (("", base), (extras.EXTRA, torch)):
        assert [*map(Requirement, packages.requirements(extra))] == [*map(Requirement, wanted)]
