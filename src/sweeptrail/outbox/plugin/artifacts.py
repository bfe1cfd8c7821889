"""Where MLflow lays down the artifacts of the open run: in the run's folder, from which they are delivered."""

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.async_logging.run_operations import RunOperations

from sweeptrail.outbox.plugin.models import without_ids
from sweeptrail.outbox.plugin.open_run import SCHEME
from sweeptrail.outbox.plugin.refusals import refuse
from sweeptrail.outbox.plugin.session import session


class RunArtifacts(LocalArtifactRepository):
    """A folder of the open run's artifacts; what is put there is told to the run."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._artifact_dir = unquote(artifact_uri.removeprefix(f"{SCHEME}:"))

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Copy a file: it may change, or be gone, before it is delivered."""
        opened = session("log_artifact")
        super().log_artifact(local_file, artifact_path)
        path = Path(self.artifact_dir, artifact_path or "", Path(local_file).name)
        if opened.models.is_description(path):
            without_ids(path, path.parent.name)
        opened.keep_file(path)

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Copy all files below a folder."""
        for file in sorted(path for path in Path(local_dir).rglob("*") if path.is_file()):
            folder = Path(artifact_path or "", file.parent.relative_to(local_dir)).as_posix()
            self.log_artifact(file, None if folder == "." else folder)

    def _log_artifact_async(self, filename: str, artifact_path: str | None = None, artifact: Any = None) -> Any:
        """Keep an image before this returns: MLflow's queue would lose it with the process."""
        with tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
            path = Path(folder, filename)
            artifact.save(path)
            self.log_artifact(path, artifact_path)
        return RunOperations([])

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refuse: what was told may be delivered already."""
        refuse("delete_artifacts")
