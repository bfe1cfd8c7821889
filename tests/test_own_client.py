"""The courier's client changes nothing of the process: neither its environment nor MLflow's state."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.journal import append
from tests import written as entries


class Looking(http.server.BaseHTTPRequestHandler):
    """Fails, and remembers what the process was like meanwhile: the courier waits for it in another thread."""

    seen: list[tuple[dict[str, str], str, object]]

    def do_GET(self) -> None:
        patience = (MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get())
        self.seen.append((dict(os.environ), mlflow.get_tracking_uri(), patience))
        self.send_error(503)

    do_POST = do_GET  # noqa: N815  # the name that the base class looks for

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    Looking.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Looking) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield listening
        listening.shutdown()


def test_while_the_courier_works_the_process_is_as_it_was(
    tmp_path: Path, server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
    before = (dict(os.environ), mlflow.get_tracking_uri(), (6, MLFLOW_HTTP_REQUEST_TIMEOUT.get()))
    opened = entries.opened("c0ffee", name="sweep", time=1.0, tags={}, experiment={"name": "new"})
    append(tmp_path / "sweep" / journal.FILE_NAME, opened)
    courier = Courier(f"http://127.0.0.1:{server.server_port}", tmp_path / "sweep")
    with pytest.raises(DeliveryError, match="503"):
        courier.deliver()
    assert Looking.seen == [before]  # asked once: whoever waits for a server decides when to come again
    assert (dict(os.environ), mlflow.get_tracking_uri(), before[2]) == before
    assert mlflow.active_run() is None


@pytest.mark.slow
def test_opening_a_database_keeps_mlflow_s_own_log_for_everybody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    courier = Courier(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    with caplog.at_level("INFO", "mlflow.store.db.utils"):
        courier.server.find("0", "c0ffee")
        assert caplog.records == []
        mlflow.MlflowClient(f"sqlite:///{tmp_path}/other.db").search_experiments()
    assert caplog.records
