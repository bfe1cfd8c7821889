"""The built-in task as sweeps see it; torch and numpy are loaded where they are used, since the help needs neither."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeptrail.errors import SettingsError
from sweeptrail.fashion_mnist import settings
from sweeptrail.fashion_mnist.settings import DATA, NETWORKS, RunSettings
from sweeptrail.records import Goal, Job, RunResult
from sweeptrail.tasks.code import Importable
from sweeptrail.tasks.task import Prepared, Task, Values
from sweeptrail.tracking import tags

if TYPE_CHECKING:
    from sweeptrail.results.report.section import Section


DATA_NAME = "Fashion-MNIST"


class FashionMnistTask:
    """Trains a network on Fashion-MNIST; the methods are those of Task."""

    name = title = settings.NAME
    source_digest = ""
    parameters = settings.PARAMETERS
    packages = ("torch",)
    missing_data = (
        f"{DATA_NAME} is not on this machine",
        "the first sweep downloads them (30 MB); without a network: apt-get install dataset-fashion-mnist, "
        "or --data-dir FOLDER",
    )
    code = Importable("sweeptrail.fashion_mnist.train", "train")
    preload = ("sweeptrail.fashion_mnist.train",)
    preload_export = ("torch", "sweeptrail.fashion_mnist.networks")

    def problems(self, values: Values) -> Iterable[str]:
        return settings.problems(values)

    def problems_here(self, values: Values) -> Iterable[str]:
        """Yield what this machine has not; torch is loaded only when it must be asked."""
        kind, _, number = values["device"].partition(":")
        if kind in ("cuda", "mps"):
            import torch

            there = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
            if int(number or 0) >= there:
                yield f"device: expected one that this machine has, got {values['device']!r}; write device=auto"
        for name in values["network"]:
            if name not in NETWORKS:
                from sweeptrail.fashion_mnist.networks import create

                try:
                    create(name)
                except SettingsError as error:
                    yield from error.problems

    def goal(self, values: Values) -> Goal:
        return Goal("validation_accuracy" if values["validation_samples"] else "accuracy")

    def prepare(self, values: Values, home: Path) -> Prepared:
        from sweeptrail.fashion_mnist import data

        found = data.load(values.get("data_dir"), str(home / "data"))
        profile = {"train_samples": len(found.train_labels), "test_samples": len(found.test_labels)}
        return Prepared({DATA: found}, DATA_NAME, found.digest, found.folder, profile)

    def data_here(self, folder: str) -> str:
        from sweeptrail.fashion_mnist import data

        found = data.load_here(folder or None)
        return f"{DATA_NAME} in {found.folder}" if found else ""

    def cost(self, values: Values) -> float:
        return RunSettings(**values).cost

    def modules(self, values: Values) -> set[str]:
        return {name.partition(":")[0].partition(".")[0] for name in values["network"] if ":" in name}

    def chosen_on(self, job: Job, metric: str) -> str:
        digest = job.tags.get(tags.DATA_DIGEST, "")
        if metric.startswith("validation_"):
            return f"{digest}, {job.values['validation_samples']} held out"
        return f"{digest}, {job.values['train_samples'] or 'all'} trained on"

    def exporter(self, shared: Mapping[str, Any]) -> Callable[[Job], RunResult]:
        from sweeptrail.fashion_mnist.model import Export

        return Export(shared[DATA].test_images[:2])

    def are_valid(self, combinations: Sequence[Values]) -> list[bool]:
        return [True] * len(combinations)

    def sections(self, shared: Mapping[str, Any], run_folder: Path) -> "Sequence[Section]":
        from sweeptrail.fashion_mnist.evaluation import predictions
        from sweeptrail.fashion_mnist.evaluation.sections import sections

        path = run_folder / predictions.FILE_NAME
        return sections(shared[DATA], predictions.load(path)) if path.exists() else ()


TASK: Task = FashionMnistTask()
