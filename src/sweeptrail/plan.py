"""Checks everything before anything is trained."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sweeptrail import data, folders
from sweeptrail.errors import SettingsError, UsageError
from sweeptrail.settings import NETWORKS, Settings, parse
from sweeptrail.tracking import Tracking

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


def make_plan(
    texts: Mapping[str, str], tracking: Callable[[], Tracking], *, runs_dir: str = "auto", tracked: bool = True
) -> Plan:
    """Return the sweep that these settings, as text, describe.

    Raises UsageError with every mistake there is: in the settings, in the place of the results, in
    the data, and in the tracking server's URI (`tracking` finds that out).
    """
    problems: list[str] = []
    settings = _collect(lambda: parse(texts), problems)
    server = _collect(tracking, problems)
    home = folders.home(server) if server else Path.cwd()
    runs = home / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
    _collect(lambda: folders.check_writable(runs), problems)
    data_dir = texts.get("data_dir", "auto")
    images = _collect(lambda: data.load(None if data_dir == "auto" else data_dir, str(home / "data")), problems)
    if settings:
        problems += _machine_problems(settings)
    if problems or not (settings and server and images):
        raise UsageError(problems)
    return Plan(settings, images, runs, server, tracked)


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
            from sweeptrail.networks import create

            try:
                create(name)
            except SettingsError as error:
                yield from error.problems
