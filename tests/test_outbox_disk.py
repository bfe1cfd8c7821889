"""A journal survives a torn line and a full disk, and artifacts any name that MLflow takes."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeptrail.errors import TrackingError
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed
from sweeptrail.outbox.machine.delivering import sync
from sweeptrail.outbox.machine.place import Place, open_place
from sweeptrail.outbox.machine.shared_journal import SharedJournal
from tests.outboxes import Outboxes, plain, runs_in, values
from tests.proxy import Proxy
from tests.server import Server
from tests.waiting import PATIENCE

BEGIN = """
    import mlflow, os
    mlflow.set_experiment(os.environ["NAME"])
    run = mlflow.start_run()
    print("run", run.info.run_id, flush=True)
"""

TORN = ("torn", b'0123abcd {"kind":"measured","val')
ENDED = ("not a record", b"neither checksum nor record\n")


@pytest.mark.parametrize("end", [TORN, ENDED], ids=lambda end: end[0])
def test_a_line_that_is_no_record_is_passed_over(
    box: Outboxes, proxy: Proxy, tracking: Server, end: tuple[str, bytes]
) -> None:
    name, line = end
    proxy.stop()
    printed = box.run(BEGIN + '    mlflow.log_metric("loss", 1)\n', NAME=name)
    path = box.box / printed.split()[1] / journal.FILE_NAME
    with path.open("ab") as file:
        file.write(line)
    box.run(
        """
    import mlflow, os
    client = mlflow.MlflowClient()
    client.log_metric(os.environ["RUN"], "loss", 2)
    assert [each.value for each in client.get_metric_history(os.environ["RUN"], "loss")] == [1, 2]
    """,
        RUN=printed.split()[1],
    )
    with path.open("ab") as file:
        file.write(line)
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, name)
    assert values(tracking.uri, run, "loss") == {1: 1, 2: 1}


def test_a_journal_that_ends_in_a_torn_line_waits_for_nobody(tmp_path: Path, tracking: Server) -> None:
    place = Place(tmp_path, tracking.uri)
    for folder in ("writers", "models", "server_ids", "run"):
        (tmp_path / folder).mkdir()
    written = SharedJournal(place.journal("run"))
    written.append(Closed("FINISHED", 1))
    written.close()
    with place.journal("run").open("ab") as file:
        file.write(TORN[1])
    (tmp_path / "writers" / "1").write_text("run\nleft\n")
    _, refusals = sync(place, patience=PATIENCE)
    assert len(refusals) == 1  # of a run that was never begun
    assert not list((tmp_path / "writers").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be had: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


FILL = """
    number = 0
    try:
        while True:
            mlflow.log_metric("loss", number, step=number)
            number += 1
    except Exception as error:
        print("stopped", number, type(error).__name__, str(error).replace(chr(10), "/"), flush=True)
"""


def test_a_full_disk_is_said_by_one_clear_error_and_loses_nothing_of_before(
    small_disk: Path, box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.stop()
    (box.folder / "data").symlink_to(small_disk)
    (small_disk / "filler").write_bytes(bytes(700_000))
    room = f"    os.remove({str(small_disk / 'filler')!r})\n"
    script = box.begin(BEGIN + FILL + room, NAME="full")
    number, kind, *words = script.said("stopped").split()
    assert kind == "JournalError"
    assert "outbox.jsonl: cannot be written: No space left on device" in " ".join(words)
    assert script.process.wait() == 0, script.errors()
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, "full")
    assert run.info.status == "FINISHED"
    assert values(tracking.uri, run, "loss") == Counter(range(int(number)))


def test_a_file_that_may_not_grow_is_said_by_one_clear_error(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.stop()
    limited = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    """
    unlimited = "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
    script = box.begin(BEGIN + limited + FILL + unlimited + '    mlflow.log_metric("after", 1)\n', NAME="limit")
    number, *words = script.said("stopped").split()
    assert "File too large" in " ".join(words)
    assert script.process.wait() == 0, script.errors()
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, "limit")
    assert (run.info.status, run.data.metrics["after"]) == ("FINISHED", 1)
    assert values(tracking.uri, run, "loss") == Counter(range(int(number)))


def test_artifacts_keep_their_paths(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.stop()
    code = """
    import pathlib
    for name in ("plain.txt", "with space.txt", "größe 寸.txt", "50% or more?.txt", "a..b.txt"):
        pathlib.Path(name).write_text(name)
        mlflow.log_artifact(name, "models/artifacts")
        mlflow.log_artifact(name)
    pathlib.Path("tree/models/deep er").mkdir(parents=True)
    pathlib.Path("tree/models/deep er/leaf.txt").write_text("leaf")
    mlflow.log_artifacts("tree", "tree")
    pathlib.Path("#.txt").touch()
    try:
        mlflow.log_artifact("#.txt")
    except mlflow.MlflowException as error:
        print("refused", error, flush=True)
    mlflow.log_text("text", "text/of/a run.txt")
    client = mlflow.MlflowClient()
    def listed(path):
        for each in client.list_artifacts(run.info.run_id, path):
            if each.is_dir:
                yield from listed(each.path)
            else:
                yield each.path
    print("listed", sorted(listed(None)))
    uri = mlflow.get_artifact_uri("models/artifacts")
    assert pathlib.Path(mlflow.artifacts.download_artifacts(uri + "/plain.txt")).read_text() == "plain.txt"
    found = client.download_artifacts(run.info.run_id, "tree/models/deep er/leaf.txt")
    assert pathlib.Path(found).read_text() == "leaf"
    """
    script = box.begin(BEGIN + code, NAME="paths")
    listed = script.said("listed")
    assert script.said("refused") == "Invalid path"  # as by the server
    assert script.process.wait() == 0, script.errors()
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, "paths")
    assert listed == str(sorted(_listed(tracking.uri, run.info.run_id)))
    assert len(_listed(tracking.uri, run.info.run_id)) == 12
    copies = box.box / script.said("run") / "artifacts"
    assert not copies.exists()
    later = box.run(
        """
    import mlflow, os
    print(open(mlflow.artifacts.download_artifacts(run_id=os.environ["RUN"], artifact_path="größe 寸.txt")).read())
    """,
        RUN=script.said("run"),
    )
    assert later == "größe 寸.txt\n"


def _listed(uri: str, run_id: str, path: str | None = None) -> list[str]:
    found = []
    for each in plain(uri).list_artifacts(run_id, path):
        found += _listed(uri, run_id, each.path) if each.is_dir else [each.path]
    return found


@pytest.mark.parametrize("path", ["../out", "/tmp/out", "in/../../out", ".."])
def test_an_artifact_path_that_leads_out_of_the_run_is_refused(box: Outboxes, proxy: Proxy, path: str) -> None:
    proxy.stop()
    printed = box.run(
        BEGIN
        + """
    open("canary.txt", "w").write("canary")
    try:
        mlflow.log_artifact("canary.txt", os.environ["PATH_IN"])
    except mlflow.MlflowException as error:
        print("refused", str(error)[:21])
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=run.info.artifact_uri + "/" + os.environ["PATH_IN"])
    except Exception as error:
        print("not read")
    """,
        NAME="out",
        PATH_IN=path,
    )
    assert "refused Invalid artifact path" in printed
    assert "not read" in printed
    assert [each.name for each in box.folder.rglob("canary.txt")] == ["canary.txt"]


def test_a_process_may_write_more_runs_than_it_may_open_files(box: Outboxes, tracking: Server) -> None:
    box.run("""
    import mlflow, resource
    mlflow.set_experiment("many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    for number in range(120):
        with mlflow.start_run():
            mlflow.log_metric("number", number)
    """)
    box.settle()
    assert [run.info.status for run in runs_in(tracking.uri, "many")] == ["FINISHED"] * 120


@pytest.mark.parametrize("uri", ["http://", "https://:5000", "sqlite:///", "sqlite:////nowhere/at/all.db"])
def test_an_address_that_can_never_answer_is_refused_at_once(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"; write "):
        open_place(uri)
