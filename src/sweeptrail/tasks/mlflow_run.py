"""The run of a task as plain MLflow code inside of it sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Job
from sweeptrail.tasks.task_run import TaskRun
from sweeptrail.tracking.facts import Dataset


@dataclass(frozen=True)
class MlflowRun:
    """Hands what MLflow is told to the run's manager and journal; the methods are those of the plugin's OpenRun."""

    job: Job
    manager: TaskRun
    journal: RunJournal
    params: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.params.update(self.journal.params)

    @property
    def run_id(self) -> str:
        return self.manager.run_id

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def folder(self) -> Path:
        return Path(self.job.folder)

    @property
    def tags(self) -> Mapping[str, str]:
        return self.job.tags

    def log_metrics(self, values: Mapping[str, float], step: int, time: float) -> None:
        self.manager.measure(values, step, time)

    def log_params(self, values: Mapping[str, str]) -> None:
        self.params.update(values)
        self.journal.add_params(values)

    def set_tags(self, values: Mapping[str, str]) -> None:
        self.journal.add_tags(values)

    def log_artifact(self, path: Path, to: str) -> None:
        self.journal.add_artifact(path, to)

    def add_dataset(self, dataset: Dataset) -> None:
        self.journal.add_dataset(dataset)
