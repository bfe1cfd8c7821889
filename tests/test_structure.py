"""The structure holds: imports point one way, and what is heavy is loaded by those who need it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sweeptrail

SOURCE = Path(sweeptrail.__file__).parent

COMMANDS = ("compare", "doctor", "predict", "server", "sweeps", "tensorboard", "upkeep")

LAYERS = [
    {"errors", "outbox.links", "report.theme"},
    {"images", "pt2", "space", "tracking", "sharing", "locks", "signals", "engines.watchdog", "server", "server.guard"},
    {"settings", "folders", "context", "server.place"},
    {
        "records",
        "data",
        "server.postgres",
        "server.services",
        "server.tracker",
        "server.users",
        "server.artifacts",
        "server.app",
    },
    {"server.cluster"},
    {"server.archive"},
    {"server.supervisor"},
    {"doctor.findings", "doctor.access"},
    {"doctor.packages", "doctor.answers", "doctor.here"},
    {"doctor.login"},
    {"doctor.tracking"},
    {"doctor"},
    {"leaderboard", "results", "batches", "kernels", "outbox.journal", "sinks", "engines"},
    {
        "description",
        "history",
        "networks",
        "outbox.entries",
        "outbox.rounds",
        "outbox.mailbox",
        "outbox.database",
        "outbox.speaking",
        "outbox.registry",
        "engines.guard",
        "work",
        "note",
        "predictions",
    },
    {"steps", "resume", "outbox.server", "engines.worker", "entrants", "model", "report.facts"},
    {"sinks.group", "sinks.console", "sinks.tensorboard", "sinks.checkpoint", "sinks.outbox"},
    {"manager", "outbox.courier", "outbox.pull", "engines.serial", "engines.forkserver_main"},
    {"predict", "compare", "outbox.gather", "outbox.events", "report.tables", "report.plots"},
    {"training", "outbox.background", "plan", "upkeep", "follower", "engines.forkserver"},
    {"engines.processes", "remote", "viewer", "report.document"},
    {"report"},
    {"engines.ray"},
    {"standings", "outcome"},
    {"standalone", "sweep"},
    {"cli.group"},
    {f"cli.{name}" for name in COMMANDS},
    {"cli"},
    {"__main__"},
]
"""A module imports from the layers above its own in this list, never from its own or from those below."""

MLFLOW = {"model", "server.app", "server.guard", "server.artifacts"} | {
    f"outbox.{name}" for name in ("server", "speaking", "pull", "gather", "events", "database", "registry")
}
"""What speaks to MLflow, and what exports a model in its form."""

ONLY_IN = {
    "mlflow": MLFLOW,
    "click": {f"cli.{name}" for name in ("group", *COMMANDS)},
    "rich": {"sinks.console"},
    "ray": {"engines.ray"},
    "matplotlib": {"report.plots"},
    "jinja2": {"report.document"},
}

WITHOUT_TORCH = ["errors", "space", "records", "settings", "tracking", "data", "plan", "cli"]
WITHOUT_TORCH += ["engines.processes", "engines.ray"]


def modules() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__")


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """Yield each module that is imported, and whether that happens only where it is used."""
    path = SOURCE.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    lazy = {child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.If) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.startswith("sweeptrail.") and name.removeprefix("sweeptrail.") in set(modules())
                yield (name if is_module else str(node.module), node in lazy)


def layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module in names)


@pytest.mark.parametrize("module", [name for name in modules() if name not in ("", "outbox")])
def test_imports_point_one_way(module: str) -> None:
    for imported, lazy in imports(module):
        if imported.startswith("sweeptrail.") and not lazy:
            assert layer(imported.removeprefix("sweeptrail.")) < layer(module), f"{module} imports {imported}"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_library_that_could_be_exchanged_is_imported_in_one_file(package: str) -> None:
    importers = {module for module in modules() for name, _ in imports(module) if name.partition(".")[0] == package}
    assert importers <= ONLY_IN[package]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_works_without_torch_and_mlflow_does_not_load_them(module: str) -> None:
    code = f"import sys, sweeptrail.{module}; print(*{{'torch', 'mlflow', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_worker_loads_neither_mlflow_nor_pandas() -> None:
    code = "import sys, sweeptrail.training; print(*{'mlflow', 'pandas', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_public_names_are_complete_and_sorted() -> None:
    assert sweeptrail.__all__ == sorted(sweeptrail.__all__) == dir(sweeptrail)
    for name in sweeptrail.__all__:
        assert getattr(sweeptrail, name).__module__.startswith("sweeptrail.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sweeptrail.nothing  # noqa: B018  # the look-up is the test
