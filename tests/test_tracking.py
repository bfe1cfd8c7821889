"""Which tracking server a sweep reports to."""

from pathlib import Path

import mlflow
import pytest

from sweeptrail.errors import TrackingError
from sweeptrail.tracking.uri import Tracking, usable_uri, without_credentials
from tests.commands import new_store


def test_with_nothing_configured_it_is_a_file_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert usable_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_run_of_mlflow_run_is_adopted_and_its_variable_removed(tmp_path: Path) -> None:
    environ = {
        "MLFLOW_RUN_ID": "r1",
        "MLFLOW_EXPERIMENT_ID": "7",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    tracking = Tracking.from_environment(environ, uri=environ["MLFLOW_TRACKING_URI"])
    assert tracking.adopt == "r1"
    assert tracking.experiment == {"id": "7"}
    assert not tracking.adopted_closes_itself
    assert "MLFLOW_RUN_ID" not in environ


def test_the_active_run_of_this_process_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = new_store(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run() as run:
            tracking = Tracking.from_environment({})
    finally:
        mlflow.set_tracking_uri(before)
    assert (tracking.uri, tracking.adopt, tracking.adopted_closes_itself) == (uri, run.info.run_id, True)


@pytest.mark.parametrize("name", ["a b", 'quote"', "per%20cent", "question?", "hash#", "ümlaut", "new\nline"])
def test_any_folder_can_hold_the_database(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    tracking = Tracking(usable_uri("sqlite:///mlflow.db"))
    assert tracking.database == folder / "mlflow.db"
    assert usable_uri(tracking.uri) == tracking.uri


@pytest.mark.parametrize(
    "uri", ["http://host:5000", "https://u:p@host", "postgresql+psycopg2://u:p@host/db", "databricks", "mysql://h/d"]
)
def test_servers_and_databases_are_taken_as_they_are(uri: str) -> None:
    assert usable_uri(uri) == uri


@pytest.mark.parametrize(
    "uri", ["file:///x", "./mlruns", "/abs", "ftp://h", "sqlite://", "sqlite:///", "sqlite:///:memory:"]
)
def test_what_cannot_be_used_is_refused_with_what_to_write(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"tracking_uri: .*; write sqlite:///mlflow.db"):
        usable_uri(uri)


def test_credentials_are_left_out_of_what_is_shown() -> None:
    assert without_credentials("https://user:s3cret@host:1/p?q=a@b") == "https://host:1/p?q=a@b"
    assert without_credentials("postgresql+psycopg2://u:p@h/d") == "postgresql+psycopg2://h/d"
    assert without_credentials("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"
