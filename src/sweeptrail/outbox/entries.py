"""What a journal can say of an MLflow run, one function for each kind of record."""

from collections.abc import Mapping
from typing import Any

from sweeptrail.outbox.journal import Entry

IDENTITY_TAG = "sweeptrail.identity"
"""The tag by which a run is found again when the answer to its creation was lost."""


def opened(
    identity: str,
    *,
    name: str,
    time: float,
    tags: Mapping[str, str],
    parent: str = "",
    experiment: Mapping[str, str] | None = None,
    adopt: Mapping[str, str] | None = None,
) -> Entry:
    """The run exists, or goes on; `adopt` names a run that is there already: its `uri` and `run_id`.

    `experiment` is the `id` or the `name` of the experiment of a run that has no parent.
    """
    return {
        "kind": "opened",
        "identity": identity,
        "name": name,
        "time": milliseconds(time),
        "tags": dict(tags),
        "parent": parent,
        "experiment": dict(experiment or {}),
        "adopt": dict(adopt or {}),
    }


def params(values: Mapping[str, Any]) -> Entry:
    """Parameters of the run; what the run has already is left as it is."""
    return {"kind": "params", "values": {name: str(value) for name, value in values.items()}}


def tags(values: Mapping[str, str]) -> Entry:
    """Tags of the run; a later value replaces an earlier one."""
    return {"kind": "tags", "values": dict(values)}


def metrics(values: Mapping[str, float], *, step: int, time: float) -> Entry:
    """Measurements at one step, at this time in seconds since 1970."""
    return {"kind": "metrics", "values": dict(values), "step": step, "time": milliseconds(time)}


def artifact(path: str, to: str = "", *, growing: bool = False) -> Entry:
    """A file, by its path from the journal's folder, that goes into the folder `to` of the artifacts.

    One that is still growing may be passed over: the end of its run tells of it again.
    """
    return {"kind": "artifact", "path": path, "to": to, **({"growing": True} if growing else {})}


def link(tag: str, identity: str) -> Entry:
    """A tag with the id that the run of this identity, a sweep's, has on the tracking server."""
    return {"kind": "link", "tag": tag, "identity": identity}


def note(text: str) -> Entry:
    """The description of the run, Markdown whose links are those of outbox/links.py; a later one replaces it."""
    return {"kind": "note", "text": text}


def dataset(*, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> Entry:
    """The data that the run used."""
    return {"kind": "dataset", "name": name, "digest": digest, "source": source, "profile": dict(profile)}


def version(
    *, name: str, metric: str, value: float, data: str, parent: str, tags: Mapping[str, str] | None = None
) -> Entry:
    """The artifacts `model` of the run are a version of the registered model `name`.

    `metric`, with this `value` on this `data`, is what it is compared with the champion by, greater
    being better; `parent` is the identity of the sweep.
    """
    return {
        "kind": "version",
        "name": name,
        "metric": metric,
        "value": value,
        "data": data,
        "parent": parent,
        "tags": dict(tags or {}),
    }


def closed(status: str, *, time: float) -> Entry:
    """The run is over."""
    return {"kind": "closed", "status": status, "time": milliseconds(time)}


def milliseconds(seconds: float) -> int:
    """Return a time as MLflow counts it."""
    return round(seconds * 1000)
