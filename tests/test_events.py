"""The event files of runs, fetched from a tracking server into folders."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sweeptrail.errors import RefusedError, SettingsError
from sweeptrail.results.tensorboard.mirror import Mirror
from sweeptrail.tracking.client import TrackingServer
from tests.commands import new_store
from tests.event_files import EVENTS, files_below, open_run, steps_in, write_events


def fetch(mirror: Mirror) -> tuple[int, int]:
    """Return how many runs were asked for, and how many files were fetched."""
    return mirror.look(), sum(mirror.fetch())


@pytest.fixture
def store(tmp_path: Path) -> TrackingServer:
    return TrackingServer(new_store(tmp_path))


def test_only_what_has_changed_is_fetched_and_nothing_of_a_run_that_is_over(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    parent = open_run(client, "parent")
    events = write_events(tmp_path / "here" / EVENTS, 1, 2)
    runs = [open_run(client, f"{number}_lr=0.{number}", parent) for number in (1, 2)]
    for run in runs:
        client.log_artifact(run, str(events), "tensorboard")
    mirror = Mirror(store, parent, tmp_path / "cache")
    assert fetch(mirror) == (2, 2)
    assert mirror.is_sweep
    assert sorted(path.name for path in mirror.folder.iterdir()) == ["1_lr=0.1", "2_lr=0.2"]
    before = files_below(tmp_path / "cache")
    assert fetch(mirror) == (2, 0)
    assert fetch(Mirror(store, parent, tmp_path / "cache")) == (2, 0)
    assert files_below(tmp_path / "cache") == before

    client.log_artifact(runs[0], str(write_events(events, 3)), "tensorboard")
    client.set_terminated(runs[0])
    assert fetch(mirror) == (2, 1)
    assert steps_in(mirror.folder / "1_lr=0.1") == [1, 2, 3]
    assert steps_in(mirror.folder / "2_lr=0.2") == [1, 2]
    assert mirror.is_open
    client.set_terminated(runs[1])
    client.set_terminated(parent)
    assert fetch(mirror) == (1, 0)
    assert not mirror.is_open
    assert fetch(mirror) == (0, 0)


def test_a_file_that_grows_stays_the_same_file_and_one_that_was_cut_is_replaced_whole(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    run = open_run(client, "run")
    events = write_events(tmp_path / "here" / EVENTS, 1, 2)
    mirror = Mirror(store, run, tmp_path / "cache")
    inodes = []
    for _ in range(2):
        client.log_artifact(run, str(write_events(events, 3)), "tensorboard")
        assert fetch(mirror) == (1, 1)
        assert (mirror.folder / EVENTS).read_bytes() == events.read_bytes()
        inodes.append((mirror.folder / EVENTS).stat().st_ino)
    assert inodes[0] == inodes[1]  # else TensorBoard, which has it open, would not see what is new
    events.unlink()
    client.log_artifact(run, str(write_events(events, 1)), "tensorboard")
    assert fetch(mirror) == (1, 1)
    assert (mirror.folder / EVENTS).read_bytes() == events.read_bytes()


def test_what_was_fetched_in_the_middle_of_a_record_is_read_up_to_there_and_completed_later(
    store: TrackingServer, tmp_path: Path
) -> None:
    client = MlflowClient(store.uri)
    run = open_run(client, "run")
    whole = write_events(tmp_path / "here" / EVENTS, 1, 2, 3)
    content = whole.read_bytes()
    whole.write_bytes(content[:-5])
    mirror = Mirror(store, run, tmp_path / "cache")
    client.log_artifact(run, str(whole), "tensorboard")
    fetch(mirror)
    reader = EventAccumulator(str(mirror.folder)).Reload()
    assert [item.step for item in reader.Scalars("Loss")] == [1, 2]
    whole.write_bytes(content)
    client.log_artifact(run, str(whole), "tensorboard")
    fetch(mirror)
    assert [item.step for item in reader.Reload().Scalars("Loss")] == [1, 2, 3]


def test_runs_of_any_name_stay_below_the_cache_and_apart(store: TrackingServer, tmp_path: Path) -> None:
    client = MlflowClient(store.uri)
    events = write_events(tmp_path / "here" / EVENTS, 1)
    for name in ("../../../outside", "/outside", "..", ".", "a\nb\0c", "x" * 400, "%2e%2e%2foutside"):
        parent = open_run(client, name, **{"sweeptrail.folder": name})
        for _ in range(2):
            client.log_artifact(open_run(client, name, parent), str(events), "tensorboard")
        mirror = Mirror(store, parent, tmp_path / "cache" / "events")
        before = files_below(tmp_path)
        assert fetch(mirror) == (2, 2)
        new = files_below(tmp_path).keys() - before.keys()
        assert len(new) == 2
        assert all(path.startswith("cache/events/") for path in new)
        assert {len(Path(path).parts) for path in new} == {6}  # the cache, the server, the sweep, the run, the file


class Hostile(BaseHTTPRequestHandler):
    """A tracking server that offers one run with files of many names."""

    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path.endswith("/artifacts"):
            names = self.names if parse_qs(address.query)["path"][0].endswith("/tensorboard") else ()
            self._answer(json.dumps({"files": [{"path": name, "is_dir": False, "file_size": 3} for name in names]}))
        elif "/artifacts/" in address.path:
            self._answer("bad")
        else:
            info = {"run_id": "a" * 32, "run_uuid": "a" * 32, "experiment_id": "0", "status": "FINISHED"}
            info |= {"artifact_uri": "mlflow-artifacts:/0/a/artifacts", "start_time": "1", "end_time": "2"}
            self._answer(json.dumps({"run": {"info": info, "data": {}}}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("{}")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hostile_server(*names: str) -> Iterator[str]:
    handler = type("Handler", (Hostile,), {"names": names})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "name",
    [
        "../events.out.tfevents.2",
        "../../../../../outside.tfevents",
        "/outside.tfevents",
        "below/outside.tfevents",
        "..%2f..%2foutside.tfevents",
        "out side.tfevents",
        "file:///outside.tfevents",
        "..\\outside.tfevents",
        "..",
        "outside.py",
        "outside.tfevents" * 30,
    ],
)
def test_an_artifact_with_a_hostile_name_is_never_written(tmp_path: Path, name: str) -> None:
    with hostile_server(EVENTS, name) as uri:
        mirror = Mirror(TrackingServer(uri), "a" * 32, tmp_path / "cache" / "events")
        before = files_below(tmp_path).keys()
        with suppress(RefusedError):  # MLflow's client refuses some of these answers itself
            assert fetch(mirror) == (1, 1)
        assert {Path(path).name for path in files_below(tmp_path).keys() - before} <= {EVENTS}


def test_a_run_that_the_server_has_not_is_an_error(store: TrackingServer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^expected latest, .*, or the id of a run, got 'nothing' \(.*not found"):
        Mirror(store, "nothing", tmp_path)
