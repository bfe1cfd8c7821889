"""The bench works: its rows come out, its server is late, and nothing of it stays behind."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from scripts.benchmarks.delays import delayed
from scripts.benchmarks.figures import Line, table
from scripts.benchmarks.processes import CommandError, run, started
from tests.commands import ROOT
from tests.waiting import PATIENCE, wait_for

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid, flush=True)
time.sleep(3600)
"""


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.mark.slow
def test_the_named_rows_come_out_as_a_table_and_as_json(tmp_path: Path) -> None:
    done = bench("--quick", "--json", str(tmp_path / "figures.json"), "table", "help")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[2:] == ["help", "table"]
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [(line["row"], len(line["values"])) for line in written["lines"]] == [("help", 3), ("table", 1)]
    assert all(value > 0 for line in written["lines"] for value in line["values"])
    assert len(written["measurements"]) == 4


@pytest.mark.slow
def test_the_rows_of_a_search_come_out(tmp_path: Path) -> None:
    done = bench("--quick", "--json", str(tmp_path / "figures.json"), "asking", "trials", "quality")
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "figures.json").read_text())["lines"]
    assert tuple(dict.fromkeys(line["row"] for line in lines)) == ("asking", "trials", "quality")
    assert all(value > 0 for line in lines if line["row"] != "quality" for value in line["values"])


@pytest.mark.heavy
def test_the_rows_on_anybodys_mlflow_code_come_out(tmp_path: Path) -> None:
    done = bench("--quick", "--json", str(tmp_path / "figures.json"), "client", "values", "step")
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "figures.json").read_text())["lines"]
    assert tuple(dict.fromkeys(line["row"] for line in lines)) == ("client", "values", "step")
    assert all(value > 0 for line in lines for value in line["values"] if "at the end" not in line["what"])


@pytest.mark.heavy
def test_the_rows_of_a_teams_server_come_out_with_nothing_lost_and_nothing_twice(tmp_path: Path) -> None:
    rows = ("server", "log_batch", "load", "growth")
    done = bench("--quick", "--json", str(tmp_path / "figures.json"), *rows)
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "figures.json").read_text())["lines"]
    assert tuple(dict.fromkeys(line["row"] for line in lines)) == rows
    figures = {line["what"]: line["median"] for line in lines}
    for server in ("team's server", "SQLite"):
        assert figures[f"{server}: records"] > 0
        for problem in ("clients that ended with an error", "facts lost", "facts twice"):
            assert figures[f"{server}: {problem}"] == 0


@pytest.mark.slow
def test_a_row_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = bench("--quick", "helo")
    assert done.returncode == 2
    assert "unknown rows: helo; the rows are startup, help, " in done.stderr


@pytest.mark.parametrize(
    ("at_least", "limit", "verdict"), [(True, 2, "ok"), (True, 2.1, "missed"), (False, 1.9, "missed")]
)
def test_the_median_is_held_against_the_target(at_least: bool, limit: float, verdict: str) -> None:
    line = Line("row", "what", (1.0, 2.0, 9.0), "x", limit, at_least)
    assert line.verdict == verdict
    assert "| 2.00   | 1.00..9.00 |" in table([line])


def test_each_reply_on_a_kept_connection_comes_late_and_whole() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, delayed(server.getsockname()[1], 0.1) as port:
        threading.Thread(target=echo, args=(server,), daemon=True).start()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            for content in (b"a", b"b" * 1_000_000):
                began = time.monotonic()
                client.sendall(content + b"\n")
                received = b""
                while not received.endswith(b"\n"):
                    received += client.recv(1 << 16)
                assert received == content + b"\n"
                assert time.monotonic() - began > 0.1


def echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as file:
        for line in file:
            file.write(line)
            file.flush()


def test_nothing_that_a_command_started_stays_behind(tmp_path: Path) -> None:
    with started(["-c", PARENT], tmp_path) as process:
        wait_for(lambda: (tmp_path / "output.txt").read_text().endswith("\n"))
        child = int((tmp_path / "output.txt").read_text())
    assert process.returncode
    wait_for(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such luck"):
        run(["-c", "raise SystemExit('no such luck')"], tmp_path)
