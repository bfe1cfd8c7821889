"""Models that are logged inside of a run: each a folder of its artifacts, which loads from any server."""

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import yaml
from mlflow.entities import LoggedModel, LoggedModelParameter, LoggedModelStatus, LoggedModelTag
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.utils.validation import _validate_logged_model_name

from sweeptrail.outbox.plugin.open_run import EXPERIMENT_ID, OpenRun, artifact_uri, artifacts_of
from sweeptrail.system.files import write_whole


class Models:
    """The logged models of one run; they have ids in this process only."""

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self._models: dict[str, LoggedModel] = {}
        self._folders: dict[Path, str] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[LoggedModel]:
        return iter(list(self._models.values()))

    def create(
        self,
        name: str,
        model_type: str | None,
        *,
        tags: Iterable[LoggedModelTag],
        params: Iterable[LoggedModelParameter],
    ) -> LoggedModel:
        """Make a model whose files go into the folder of its name; a second one of the name gets a number."""
        _validate_logged_model_name(name)
        model_id, now = f"m-{uuid.uuid4().hex}", round(time.time() * 1000)
        with self._lock:
            candidates = (name if number == 1 else f"{name}_{number}" for number in count(1))
            folder = next(path for each in candidates if (path := artifacts_of(self._run) / each) not in self._folders)
            self._folders[folder] = model_id
        self._models[model_id] = LoggedModel(
            experiment_id=EXPERIMENT_ID,
            model_id=model_id,
            name=name,
            artifact_location=artifact_uri(folder),
            creation_timestamp=now,
            last_updated_timestamp=now,
            model_type=model_type,
            source_run_id=self._run.run_id,
            status=LoggedModelStatus.PENDING,
            tags=list(tags),
            params=list(params),
            metrics=[],
        )
        return self._models[model_id]

    def get(self, model_id: str) -> LoggedModel:
        """Return a model of this run; raises MlflowException if it is none."""
        if model_id not in self._models:
            raise MlflowException(
                f"get_logged_model: {model_id} was not logged in this run; load it by a client of the server itself",
                error_code=RESOURCE_DOES_NOT_EXIST,
            )
        return self._models[model_id]

    def is_description(self, path: Path) -> bool:
        """Tell whether this is the file that says what one of these models is."""
        return path.name == MLMODEL_FILE_NAME and path.parent in self._folders


def without_ids(description: Path, folder: str) -> None:
    """Take the ids of this process out of an MLmodel file: the server, which does not know them, would be asked.

    What is left says that the model lies in this folder of a run's artifacts, as one of MLflow 2 does.
    """
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    content = {name: value for name, value in content.items() if name not in ("model_id", "run_id")}
    content["artifact_path"] = folder
    write_whole(description, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
