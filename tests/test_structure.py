"""The structure holds: rooms import from those below them, and what is heavy is loaded by those who need it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sweeptrail

SOURCE = Path(sweeptrail.__file__).parent

ROOMS = (
    ("__main__", "__init__"),
    ("cli",),
    ("doctor",),
    ("sweeps",),
    ("fashion_mnist",),
    ("tasks",),
    ("training",),
    ("engines",),
    ("results",),
    ("outbox",),
    ("server",),
    ("search",),
    ("tracking",),
    ("system",),
    ("sink",),
    ("records", "version"),
    ("errors",),
)
"""A room imports from itself and from the rooms below it."""

MLFLOW = {"tracking", "server", "training.export", "outbox.plugin", "outbox.store"}
"""The rooms and modules that know MLflow."""

ONLY_IN = {
    "click": {"cli"},
    "rich": {"training.sinks.console", "training.sinks.views"},
    "ray": {"engines.ray.engine"},
    "matplotlib": {"results.report.plots", "results.report.searches", "fashion_mnist.evaluation.figures"},
    "jinja2": {"results.report.document"},
    "tensorboard": {"training.sinks.tensorboard"},
    "torchvision": {"fashion_mnist.data"},
}

WITHOUT_TORCH = [
    "records",
    "tracking.uri",
    "sweeps.plan",
    "tasks.work",
    "training.manager",
    "cli",
    "engines.processes.engine",
    "engines.ray.engine",
]


@cache
def modules() -> tuple[str, ...]:
    return tuple(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in sorted(SOURCE.rglob("*.py")))


@cache
def imports(module: str) -> tuple[str, ...]:
    """Return each module that is imported, wherever in the file."""
    known = {name.removesuffix(".__init__") for name in modules()}
    found = []
    for node in ast.walk(ast.parse(SOURCE.joinpath(*module.split(".")).with_suffix(".py").read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name.removeprefix("sweeptrail.") in known else str(node.module))
    return tuple(found)


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(ROOMS) if module.partition(".")[0] in rooms)


def is_in(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("module", modules())
def test_imports_point_downwards(module: str) -> None:
    for imported in imports(module):
        if imported.startswith("sweeptrail."):
            own, other = module.partition(".")[0], imported.split(".")[1]
            assert own == other or floor(other) > floor(module), f"{module} imports {imported}"


def test_no_module_imports_itself_by_a_detour() -> None:
    names = {name.removesuffix(".__init__") for name in modules()}
    arrows = {
        name: {found.removeprefix("sweeptrail.") for found in imports(f"{name}.__init__" if is_package(name) else name)}
        & names
        for name in names - {"__init__"}
    }
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys() - {name}]:
        for leaf in leaves:
            del arrows[leaf]
    assert not arrows


def is_package(name: str) -> bool:
    return SOURCE.joinpath(*name.split(".")).is_dir()


def test_rooms_stay_small_enough_to_be_held_in_the_head() -> None:
    packages = {path.parent for path in SOURCE.rglob("__init__.py")}
    assert len(list(SOURCE.glob("*.py"))) <= 8
    assert len([path for path in packages if path.parent == SOURCE]) <= 13
    for package in packages:
        assert len([path for path in package.glob("*.py") if path.name != "__init__.py"]) <= 10, package
    for path in SOURCE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_library_that_could_be_exchanged_is_imported_in_one_place(package: str) -> None:
    importers = {module for module in modules() for name in imports(module) if name.partition(".")[0] == package}
    assert all(is_in(module, ONLY_IN[package]) for module in importers), importers


def test_mlflow_is_known_to_few() -> None:
    importers = {module for module in modules() for name in imports(module) if name.partition(".")[0] == "mlflow"}
    assert all(is_in(module, MLFLOW) for module in importers), importers


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_works_without_torch_and_mlflow_does_not_load_them(module: str) -> None:
    code = f"import sys, sweeptrail.{module}; print(*{{'torch', 'mlflow', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_a_worker_loads_neither_mlflow_nor_pandas() -> None:
    code = "import sys, sweeptrail.fashion_mnist.train; print(*{'mlflow', 'pandas', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_public_names_are_complete_and_sorted() -> None:
    assert sweeptrail.__all__ == sorted(sweeptrail.__all__) == dir(sweeptrail)
    for name in sweeptrail.__all__:
        assert getattr(sweeptrail, name).__module__.startswith("sweeptrail.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sweeptrail.nothing  # noqa: B018  # the look-up is the test
