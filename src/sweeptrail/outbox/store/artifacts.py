"""Artifacts on their way: a copy in the outbox, beside what the server has already."""

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.uri import validate_path_is_safe

from sweeptrail.outbox.delivery.runs import MODELS, SCHEME
from sweeptrail.outbox.entries import Artifact, ModelFile
from sweeptrail.outbox.store.asking import AwayError, NotDeliveredError, refuse
from sweeptrail.tracking import rest


class OutboxArtifacts(ArtifactRepository):
    """The artifacts of a run, or of a logged model, or a folder of them."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._store = _get_store(tracking_uri or mlflow.get_tracking_uri())
        path = Path(unquote(artifact_uri.removeprefix(f"{SCHEME}:"))).relative_to(self._store.outbox.place.folder)
        self._run_id, kind, *inside = path.parts
        self._model = inside.pop(0) if kind == MODELS else ""
        self._folder = Path(kind, self._model)
        self._root = self._store.outbox.place.run_folder(self._run_id) / self._folder
        self._inside = "/".join(inside)

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Copy a file: it may change, or be gone, before it is delivered."""
        verify_artifact_path(artifact_path)
        to = _named(Path(self._inside, artifact_path or ""))
        if self._store.outbox.place.uri.startswith("http"):  # what the server would refuse later
            validate_path_is_safe(Path(to, Path(local_file).name).as_posix())
        entry = ModelFile("", to, model=self._model) if self._model else Artifact("", to)
        self._store.outbox.keep_file(self._run_id, Path(local_file), (self._folder / to).as_posix(), entry)

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Copy all files below a folder."""
        for file in sorted(path for path in Path(local_dir).rglob("*") if path.is_file()):
            self.log_artifact(file, _named(Path(artifact_path or "", file.parent.relative_to(local_dir))))

    def _log_artifact_async(self, filename: str, artifact_path: str | None = None, artifact: Any = None) -> Any:
        """Keep an image before this returns: MLflow's queue would lose it with the process."""
        with tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
            path = Path(folder, filename)
            artifact.save(path)
            self.log_artifact(path, artifact_path)
        return RunOperations([])

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what is here and what the server has, in the order of the names."""
        validate_path_is_safe(path or "")
        at = self._root / self._inside / (path or "")
        found = {}
        for each in at.iterdir() if at.is_dir() else ():
            size = None if each.is_dir() else each.stat().st_size
            name = each.relative_to(self._root / self._inside).as_posix()
            found[name] = FileInfo(name, each.is_dir(), size)
        try:
            of_server = self._ask(lambda files, inside: files.list_artifacts(inside or None), path or "")
        except (AwayError, NotDeliveredError):
            of_server = []
        for each in of_server:
            name = Path(each.path).relative_to(self._inside).as_posix()
            found.setdefault(name, FileInfo(name, each.is_dir, each.file_size))
        return [found[name] for name in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        validate_path_is_safe(remote_file_path)
        here = self._root / self._inside / remote_file_path
        if here.is_file():
            Path(local_path).write_bytes(here.read_bytes())
            return
        try:
            self._ask(lambda files, inside: files._download_file(inside, local_path), remote_file_path, patience=600.0)
        except (AwayError, NotDeliveredError) as error:
            raise MlflowException(
                f"download_artifacts: {remote_file_path} is not on this machine any more, and the tracking server "
                f"does not answer ({error})",
                error_code=RESOURCE_DOES_NOT_EXIST,
            ) from error

    def _ask(self, question: Any, path: str, **limit: float) -> Any:
        reader = self._store.reader

        def answer(store: Any) -> Any:
            if self._model:
                location = store.get_logged_model(reader.ids.model(self._model)).artifact_location
            else:
                location = store.get_run(reader.ids.run(self._run_id)).info.artifact_uri
            files = rest.artifacts_at(location, self._store.outbox.place.uri)
            return question(files, _named(Path(self._inside, path)))

        return reader.server.ask(answer, **({"limit": limit["patience"]} if limit else {}))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refuse: what was told may be delivered already."""
        raise refuse("delete_artifacts")


def _named(folder: Path) -> str:
    """Return the path of a folder among the artifacts; empty for the outermost."""
    return "" if folder == Path() else folder.as_posix()
