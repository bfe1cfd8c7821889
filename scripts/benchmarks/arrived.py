"""What a tracking server holds of sweeps, held against the journals in their folders."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import requests

from scripts.benchmarks.team import Person
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Closed, Entry, Metrics, Opened
from sweeptrail.tracking import tags

PAGE = 1000
"""How many runs to ask for at once."""


class Arrived(NamedTuple):
    """How many facts the journals hold, and where the server differs: runs, their ends, their metrics."""

    records: int
    lost: int
    twice: int


def arrived(person: Person, experiment: str, folders: Sequence[Path]) -> Arrived:
    """Compare every run and every measurement."""
    with person.session() as session:
        runs = _runs(person, session, experiment)
        journals = [path for folder in folders for path in folder.glob(f"runs/**/{journal.FILE_NAME}")]
        records = lost = 0
        identities = Counter(_tags(run)[tags.IDENTITY] for run in runs)
        by_identity = {_tags(run)[tags.IDENTITY]: run for run in runs}
        twice = identities.total() - len(identities)
        for path in journals:
            entries = [entry for entry, _ in journal.read(path)]
            records += len(entries)
            run = by_identity.pop(next(entry.identity for entry in entries if isinstance(entry, Opened)), None)
            ours = Counter(_facts(entries))
            theirs = Counter(_facts_there(person, session, run)) if run else Counter()
            lost += (ours - theirs).total() + (run is None)
            twice += (theirs - ours).total()
    return Arrived(records, lost, twice + len(by_identity))


def _facts(entries: Sequence[Entry]) -> set[tuple[Any, ...]]:
    """Return what a journal says of a run: how it ended, and each measurement."""
    facts: set[tuple[Any, ...]] = {(entry.status, entry.time) for entry in entries if isinstance(entry, Closed)}
    for entry in entries:
        if isinstance(entry, Metrics):
            facts.update((name, value, entry.time, entry.step) for name, value in entry.values.items())
    return facts


def _facts_there(person: Person, session: requests.Session, run: Any) -> list[tuple[Any, ...]]:
    info = run["info"]
    facts: list[tuple[Any, ...]] = [(info["status"], info["end_time"])] if info.get("end_time") else []
    for metric in run["data"].get("metrics", []):
        params = {"run_id": run["info"]["run_id"], "metric_key": metric["key"]}
        history = person.ask(session, "GET", "api/2.0/mlflow/metrics/get-history", params=params)
        facts += [(one["key"], one["value"], one["timestamp"], one["step"]) for one in history["metrics"]]
    return facts


def _runs(person: Person, session: requests.Session, experiment: str) -> list[Any]:
    where = {"experiment_name": experiment}
    found = person.ask(session, "GET", "api/2.0/mlflow/experiments/get-by-name", params=where)
    wanted: dict[str, Any] = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": PAGE}
    runs: list[Any] = []
    while True:
        page = person.ask(session, "POST", "api/2.0/mlflow/runs/search", json=wanted)
        runs += page.get("runs", [])
        if not page.get("next_page_token"):
            return runs
        wanted["page_token"] = page["next_page_token"]


def _tags(run: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
