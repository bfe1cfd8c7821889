"""Prints docs/outbox-calls.md: what each call of MLflow does by way of an outbox, and how long it takes.

`python -m scripts.benchmarks.outbox_calls`; with a word for an argument it is the script that is measured.
"""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from scripts.benchmarks.delays import free_port, plain_server

REPEATS = 7

BY_SERVER = "by the server alone, when it has got what was written"

CALLS = {
    "set_experiment(new)": ("mlflow.set_experiment(f'experiment {n}')", "asked for by its name, else made here"),
    "start_run()": ("mlflow.start_run()", "begun here, with an id of ours"),
    "log_metric()": ("mlflow.log_metric('loss', n, step=n)", "in the journal when it returns"),
    "log_metrics(10)": ("mlflow.log_metrics(dict.fromkeys('abcdefghij', n), step=n)", "in the journal when it returns"),
    "MlflowClient.log_batch(100)": (
        "client.log_batch(run, [Metric(f'b{i}', n, now, n) for i in range(100)])",
        "in the journal when it returns",
    ),
    "log_param()": ("mlflow.log_param(f'p{n}', n)", "in the journal; another value is refused at once"),
    "set_tag()": ("mlflow.set_tag('tag', n)", "in the journal when it returns"),
    "log_input()": ("mlflow.log_input(data)", "in the journal when it returns"),
    "log_text()": ("mlflow.log_text('text', f'file{n}.txt')", "copied into the outbox when it returns"),
    "log_artifact(1 MB)": ("mlflow.log_artifact('large.bin', f'folder{n}')", "copied into the outbox when it returns"),
    "get_run(open)": ("client.get_run(run)", "from the journal, which is ahead of the server"),
    "get_metric_history(open)": ("client.get_metric_history(run, 'loss')", "from the journal"),
    "list_artifacts()": ("client.list_artifacts(run)", "from the server and the outbox"),
    "download_artifacts()": ("mlflow.artifacts.download_artifacts(f'runs:/{run}/file0.txt')", "from the outbox"),
    "search_runs()": ("client.search_runs([experiment])", "from the server, else what this machine knows"),
    "search_logged_models()": ("client.search_logged_models([experiment])", "from the server and this machine"),
    "get_experiment()": ("client.get_experiment(experiment)", "from the server, else what this machine knows"),
    "search_experiments()": ("client.search_experiments()", "from the server, else what this machine knows"),
    "search_experiments(filter)": ("client.search_experiments(filter_string=\"name = 'x'\")", BY_SERVER),
    "start_span()": ("mlflow.start_span('span').__enter__().end()", "sent in the background, to the server alone"),
    "search_traces()": ("client.search_traces(locations=[experiment])", BY_SERVER),
    "search_registered_models()": ("client.search_registered_models()", BY_SERVER),
    "create_registered_model()": ("client.create_registered_model(f'model {n}')", BY_SERVER),
    "rename_experiment()": ("client.rename_experiment(experiment, f'name {n}')", BY_SERVER),
    "delete_run()": ("client.delete_run(run)", BY_SERVER),
    "restore_run()": ("client.restore_run(run)", BY_SERVER),
    "end_run()": ("mlflow.end_run()", "in the journal when it returns"),
    "get_run(ended)": ("client.get_run(run)", "from the server, else what this machine knows"),
}  # fmt: skip
"""The code of each, and what it does; `end_run` and `start_run` are measured on runs of their own."""

SITUATIONS = ("there", "away", "hanging")


def measure() -> None:
    """Print the milliseconds of each call, and how it was refused, as JSON."""
    warnings.simplefilter("ignore")
    import mlflow
    import numpy
    from mlflow.data.numpy_dataset import from_numpy
    from mlflow.entities import Metric

    Path("large.bin").write_bytes(os.urandom(1 << 20))
    mlflow.set_experiment("first")
    client, data = mlflow.MlflowClient(), from_numpy(numpy.zeros(3), name="data")
    started = mlflow.start_run()
    names: dict[str, Any] = {
        "mlflow": mlflow,
        "client": client,
        "Metric": Metric,
        "data": data,
        "now": round(time.time() * 1000),
    }
    names |= {"run": started.info.run_id, "experiment": started.info.experiment_id}
    found = {}
    for call, (code, _) in CALLS.items():
        taken, refused = [], ""
        if call == "start_run()":
            mlflow.end_run()
        client._tracking_client.store.reader.server._silent_until = 0.0  # the first of each kind asks
        for n in range(REPEATS):
            if call == "end_run()":
                mlflow.start_run(run_id=names["run"]) if mlflow.active_run() is None else None
            names["n"] = n
            began = time.perf_counter()
            try:
                result = eval(code, names)
            except mlflow.MlflowException as error:
                refused = str(error)
            taken.append(1000 * (time.perf_counter() - began))
            if call == "start_run()":
                mlflow.end_run() if n < REPEATS - 1 else names.update(run=result.info.run_id)
        if call == "start_run()":
            names["experiment"] = result.info.experiment_id
        if refused:
            print(call, refused, file=sys.stderr)
        found[call] = [statistics.median(taken), max(taken), refused]
    print(json.dumps(found), flush=True)
    os._exit(0)  # the spans that wait are of no interest


def measured(uri: str, folder: Path) -> dict[str, Any]:
    """Return what a process of its own measures by way of an outbox for this server."""
    folder.mkdir()
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "MLFLOW_TRACKING_URI": f"sweeptrail+{uri}"}
    command = [sys.executable, "-m", "scripts.benchmarks.outbox_calls", "measure"]
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if Path(path).is_dir())
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def shown(median: float, slowest: float, refused: str) -> str:
    """Return one cell."""
    return f"{median:.2f} ({slowest:.0f}){' refused' if refused else ''}"


def main() -> None:
    """Measure with a server that is there, with none, and with one that accepts and never answers."""
    folder = Path(tempfile.mkdtemp(prefix="outbox-calls-"))
    try:
        with plain_server(folder) as port, socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
            MlflowClient(f"http://127.0.0.1:{port}").search_runs(["0"])  # the first answer takes a second
            ports = dict(zip(SITUATIONS, (port, free_port(), silent.getsockname()[1]), strict=True))
            found = {name: measured(f"http://127.0.0.1:{ports[name]}", folder / name) for name in SITUATIONS}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("# Calls of MLflow by way of an outbox\n")
    print(f"Milliseconds, the median of {REPEATS} calls and in brackets the slowest, with a server that is there, with")
    print("none, and with one that accepts connections and never answers. Refused: MlflowException, in one line that")
    print("names the call. A server that does not answer is asked for a second, then left alone for five.")
    print(f"Printed by `python -m scripts.benchmarks.outbox_calls` on {os.cpu_count()} cores, Python")
    print(f"{platform.python_version()}; what else went on there counts in it.\n")
    print(f"| call | {' | '.join(SITUATIONS)} | what happens |\n|---|---|---|---|---|")
    for call, (_, what) in CALLS.items():
        print(f"| `{call}` | {' | '.join(shown(*found[name][call]) for name in SITUATIONS)} | {what} |")


if __name__ == "__main__":
    measure() if sys.argv[1:] else main()
