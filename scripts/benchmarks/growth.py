"""How a team's server slows down with the number of runs in its database."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import sqlalchemy

from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.load import percentile
from scripts.benchmarks.processes import run, scratch
from scripts.benchmarks.server import log_batches
from scripts.benchmarks.team import Person, person, start, team_place
from sweeptrail.server.database.cluster import Database
from sweeptrail.server.folder import ServerFolder

ROWS = {"growth": "1,000 and 10,000 runs in the database: what a person waits for at each"}

RUNS = 100
"""Nested runs of one sweep."""
SWEEPS = (10, 100)
EXPERIMENT = "growth"

NEW_ID = "md5({} || number)"
"""The id of a copy, in the form of MLflow's own."""

COPIES: Mapping[str, Mapping[str, str]] = {
    "runs": {
        "run_uuid": NEW_ID.format("run_uuid"),
        "start_time": "start_time + 60000 * number",
        "end_time": "end_time + 60000 * number",
        "artifact_uri": f"replace(artifact_uri, run_uuid, {NEW_ID.format('run_uuid')})",
    },
    "tags": {
        "run_uuid": NEW_ID.format("run_uuid"),
        "value": "CASE WHEN key IN ('mlflow.parentRunId', 'sweeptrail.champion_run_id') "
        f"THEN {NEW_ID.format('value')} WHEN key = 'sweeptrail.identity' THEN value || number ELSE value END",
    },
    "params": {"run_uuid": NEW_ID.format("run_uuid")},
    "metrics": {"run_uuid": NEW_ID.format("run_uuid")},
    "latest_metrics": {"run_uuid": NEW_ID.format("run_uuid")},
    "inputs": {"input_uuid": NEW_ID.format("input_uuid"), "destination_id": NEW_ID.format("destination_id")},
    "input_tags": {"input_uuid": NEW_ID.format("input_uuid")},
}
"""For each of MLflow's tables that speak of runs, what is different in a copy."""


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Carry out one sweep, copy it in the database, and measure at two sizes."""
    num_runs, sweeps = (5, (2, 4)) if bench.quick else (RUNS, SWEEPS)
    with team_place() as place:
        start(place)
        ada = person(place, "ada")
        _sweep(bench, ada, num_runs)
        found = []
        copied = 0
        for size in sweeps:
            copy(place, copied + 1, size - 1)
            copied = size - 1
            found.append(_times(bench, ada, f"{size * num_runs:,} runs"))
    for what, few in found[0].items():
        many = found[1][what]
        for size, times in zip(sweeps, (few, many), strict=True):
            yield Line("growth", f"{what}, {size * num_runs:,} runs", tuple(times), "s")
        ratio = percentile(many, 50) / percentile(few, 50)
        limit = float(sweeps[1] // sweeps[0])
        yield Line("growth", f"{what}: the larger ÷ the smaller; more is more than linear", (ratio,), "x", limit)


def _sweep(bench: Bench, who: Person, num_runs: int) -> None:
    """Carry out a real sweep, of three epochs on few images."""
    seeds = ",".join(map(str, range(num_runs)))
    axes = ["--lr", "0.01", "--batch-size", "100", "--shuffle", "true", "--seed", seeds, "--epochs", "3"]
    few = ["--train-samples", "200", "--validation-samples", "200", "--report", "false", "--register", "none"]
    where = ["--engine", "serial", "--data-dir", bench.data_dir, "--experiment", EXPERIMENT]
    with scratch() as folder:
        run(["-m", "sweeptrail", "sweep", *axes, *few, *where], folder, **who.variables)


def copy(place: ServerFolder, first: int, last: int) -> None:
    """Copy the sweep in the database under these numbers, and count what is in its tables, as PostgreSQL does at times.

    The sweep is what has no number: its copies have another identity.
    """
    database = Database(place.state()["database_url"], {})
    engine = sqlalchemy.create_engine(database.for_mlflow, connect_args={"password": place.secrets().database_password})
    with engine.begin() as connection:
        if first == 1:
            for table in COPIES:
                connection.execute(sqlalchemy.text(f"CREATE TABLE original_{table} AS SELECT * FROM {table}"))
        for table, changed in COPIES.items():
            columns = [column["name"] for column in sqlalchemy.inspect(connection).get_columns(table)]
            values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
            names = ", ".join(f'"{column}"' for column in columns)
            connection.execute(
                sqlalchemy.text(
                    f"INSERT INTO {table} ({names}) SELECT {values} "
                    f"FROM original_{table}, generate_series({first}, {last}) AS number"
                )
            )
        connection.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


def _times(bench: Bench, who: Person, size: str) -> dict[str, list[float]]:
    """Return the seconds that each thing takes, in order of size."""
    with who.session() as session:
        by_name = {"experiment_name": EXPERIMENT}
        found = who.ask(session, "GET", "api/2.0/mlflow/experiments/get-by-name", params=by_name)
        search = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 100}
        parents = {**search, "filter": "tags.`sweeptrail.settings` != ''"}
        newest = {**search, "order_by": ["attributes.start_time DESC"], "run_view_type": "ACTIVE_ONLY"}
        oldest = {**parents, "order_by": ["attributes.start_time ASC"]}  # the sweep that was not copied

        def ask(path: str, wanted: Mapping[str, object]) -> list[dict[str, dict[str, str]]]:
            answer: list[dict[str, dict[str, str]]] = who.ask(session, "POST", path, json=wanted)["runs"]
            return answer

        parent = ask("api/2.0/mlflow/runs/search", oldest)[0]["info"]["run_id"]
        child = ask("api/2.0/mlflow/runs/search", newest)[0]["info"]["run_id"]
        repeats = bench.short_repeats
        return {
            "list of sweeps": timed(lambda: ask("api/2.0/mlflow/runs/search", parents), repeats),
            "leaderboard of one sweep (sweeptrail compare ID)": timed(lambda: _compare(who, parent), repeats),
            "first page of runs in the UI": timed(lambda: ask("ajax-api/2.0/mlflow/runs/search", newest), repeats),
            "log_batch": log_batches(who, child, 20 if bench.quick else 200),
        }


def _compare(who: Person, parent: str) -> None:
    with scratch() as folder:
        run(["-m", "sweeptrail", "compare", parent], folder, **who.variables)


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of so many repetitions, after one that does not count, in order of size."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])
