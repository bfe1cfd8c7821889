"""Where MLflow's UI shows runs, and the links to them in a text that was written before they were known there."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

LINK = re.compile(r"(?<!\\)\[((?:[^\[\]\\]|\\.)*)\]\((run|compare|artifact):([^)\s]*)\)")
"""`[text](run:IDENTITY)`, `[text](compare:IDENTITY,IDENTITY)` or `[text](artifact:FILE)` in Markdown."""


VIEW = "workflowType=machine_learning"
"""Without this in the fragment of an address the UI opens in its view for language models."""


class Where(NamedTuple):
    """Where a run is on the tracking server."""

    experiment_id: str
    run_id: str


def run_address(where: Where) -> str:
    """Return the fragment of the UI's address that shows a run."""
    return f"#/experiments/{where.experiment_id}/runs/{where.run_id}?{VIEW}"


def compare_address(experiment_id: str, run_ids: Iterable[str]) -> str:
    """Return the fragment of the UI's address that compares runs, safe in Markdown and in a shell's quotes."""
    quoted = ",".join(f"%22{run_id}%22" for run_id in run_ids)
    return f"#/compare-runs?runs=%5B{quoted}%5D&experiments=%5B%22{experiment_id}%22%5D&{VIEW}"


def resolve(text: str, own: Where, where: Callable[[str], Where | None]) -> str:
    """Give the links of a run's note their addresses; one to a run that the server has not got becomes plain text.

    `own` is the run whose note it is; `where` finds the others by their identities.
    """

    def address(kind: str, target: str) -> str:
        if kind == "artifact":
            return f"#/experiments/{own.experiment_id}/runs/{own.run_id}/artifacts/{target}?{VIEW}"
        found = [place for identity in target.split(",") if (place := where(identity))]
        if kind == "compare":
            return compare_address(own.experiment_id, [place.run_id for place in found]) if len(found) > 1 else ""
        return run_address(found[0]) if found else ""

    def link(match: re.Match[str]) -> str:
        words, kind, target = match.groups()
        found = address(kind, target)
        return f"[{words}]({found})" if found else words

    return LINK.sub(link, text)
