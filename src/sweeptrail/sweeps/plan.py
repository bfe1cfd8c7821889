"""Checks everything before anything is trained."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sweeptrail.errors import SettingsError, UsageError
from sweeptrail.fashion_mnist import data
from sweeptrail.outbox import description, folders
from sweeptrail.sweeps.resume import find_local, merged, nothing_to_resume, without_defaults
from sweeptrail.sweeps.settings import NETWORKS, Settings, parse
from sweeptrail.tracking.uri import Tracking

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A sweep that can be carried out."""

    settings: Settings
    data: data.FashionMnist
    runs_dir: Path
    tracking: Tracking
    tracked: bool = True
    """Whether the runs are told to TensorBoard and to MLflow at all."""
    resumed: Path | None = None
    """The folder of the sweep that goes on; None for a new one."""


def make_plan(
    texts: Mapping[str, str],
    tracking: Callable[[], Tracking],
    *,
    resume: str = "none",
    runs_dir: str = "auto",
    tracked: bool = True,
) -> Plan:
    """Return the sweep that these settings, as text, describe, or the one to resume.

    Raises UsageError with every mistake there is: in the settings, in the place of the results, in
    the data, and in the tracking server's URI (`tracking` finds that out).
    """
    problems: list[str] = []
    server = _collect(tracking, problems)
    home = folders.home(server) if server else Path.cwd()
    runs = home / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
    _collect(lambda: folders.check_writable(runs), problems)
    resumed = _collect(lambda: _find(resume, server, runs), problems) if server and not problems else None
    if server and server.adopt:
        texts = without_defaults(texts)  # `mlflow run` passes every setting, given or not
    settings = _collect(lambda: parse(_with_recorded(texts, resumed)), problems)
    data_dir = texts.get("data_dir", "auto")
    images = _collect(lambda: data.load(None if data_dir == "auto" else data_dir, str(home / "data")), problems)
    if settings:
        problems += _machine_problems(settings)
    if problems or not (settings and server and images):
        raise UsageError(problems)
    return Plan(settings, images, runs, server, tracked, resumed)


def _find(which: str, tracking: Tracking, runs_dir: Path) -> Path | None:
    """Return the folder of the sweep to resume; one that is only on the tracking server gets a folder.

    `mlflow run --run-id` opens the parent of a sweep again, which means the same.
    """
    wanted = tracking.adopt if which == "none" else which
    if not wanted:
        return None
    if found := find_local(runs_dir, wanted):
        return found
    # A sweep of one's own database has its folder beside it: asking that for each new sweep would cost 2 s.
    if wanted != "latest" and (which != "none" or not tracking.database):
        from sweeptrail.outbox.pull import pull

        if pulled := pull(tracking.uri, wanted, runs_dir):
            return pulled
    if which == "none":
        return None
    raise nothing_to_resume(runs_dir, which)


def _with_recorded(texts: Mapping[str, str], resumed: Path | None) -> Mapping[str, str]:
    return merged(description.read(resumed).settings, texts) if resumed else texts


def _collect(step: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return step()
    except UsageError as error:
        problems += error.problems
        return None


def _machine_problems(settings: Settings) -> Iterable[str]:
    """What this machine has not; torch is loaded only when it must be asked."""
    kind, _, number = settings.device.partition(":")
    if kind in ("cuda", "mps"):
        import torch

        there = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
        if int(number or 0) >= there:
            yield f"device: expected one that this machine has, got {settings.device!r}; write device=auto"
    for name in settings.network:
        if name not in NETWORKS:
            from sweeptrail.fashion_mnist.networks import create

            try:
                create(name)
            except SettingsError as error:
                yield from error.problems
