"""The command that opens TensorBoard on sweeps and runs, wherever their event files are."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.group import main, say
from sweeptrail.errors import Cancelled, SettingsError, SweeptrailError

if TYPE_CHECKING:
    from sweeptrail.results.tensorboard.mirror import Mirror
    from sweeptrail.results.tensorboard.program import Source, TensorBoard
    from sweeptrail.tracking.client import TrackingServer

RUNS = Path("runs")


@main.command()
@click.argument("which", metavar="[SWEEP|RUN]...", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 6006, or a free one when that is taken]")
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on")
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]")
@click.option(
    "--refresh",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="seconds between two looks at runs that are open on the tracking server",
)
def tensorboard(which: tuple[str, ...], port: int | None, host: str, tracking_uri: str | None, refresh: float) -> None:
    """Open TensorBoard on sweeps and runs, from their folders or from the tracking server.

    SWEEP is `latest`, the folder of a sweep or its name, or the id of its parent run; RUN is the id of
    a nested run. What is not on this machine is fetched, and brought up to date while runs are open.

    \b
    Example:
      sweeptrail tensorboard latest
      sweeptrail tensorboard PARENT_RUN_ID --tracking-uri http://HOST:5000
    """
    from sweeptrail.results.tensorboard import program
    from sweeptrail.system.extras import need
    from sweeptrail.system.signals import stoppable

    need("sweeptrail tensorboard", "tensorboard")
    with stoppable(), suppress(Cancelled):
        sources, mirrors = _find(which or ("latest",), tracking_uri)
        chosen = program.choose_port(host, port)
        with program.one_folder(sources) as folder, program.tensorboard(folder, host, chosen) as running:
            running.wait_for_answer()
            click.echo(f"TensorBoard:  {running.address}  (Ctrl-C ends it)")
            _refresh(mirrors, running, refresh)
            running.wait(None)


def _find(wanted: Sequence[str], tracking_uri: str | None) -> "tuple[list[Source], list[Mirror]]":
    """Return a folder for each of the wanted, and where those come from that had to be fetched."""
    from sweeptrail.results.tensorboard import program

    sources, mirrors = [], []
    for which in wanted:
        source = program.find_source(which, RUNS)
        if source is None:
            mirror = _fetched(which, tracking_uri)
            mirrors.append(mirror)
            source = program.Source(mirror.name, mirror.folder, is_run=not mirror.is_sweep)
        sources.append(source)
    return sources, mirrors


def _fetched(run_id: str, tracking_uri: str | None) -> "Mirror":
    """Return what the tracking server has of a run, fetched into the cache of this user."""
    from sweeptrail.results.tensorboard import program

    server = _server(run_id, tracking_uri)
    from sweeptrail.results.tensorboard.mirror import Mirror

    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mirror = Mirror(server, run_id, cache_home / "sweeptrail" / "tensorboard")
    num_runs = mirror.look()
    with click.progressbar(mirror.fetch(), length=num_runs, label=f"fetching {mirror.name}", file=sys.stderr) as bar:
        num_files = sum(bar)
    say(f"{mirror.name}: fetched {num_files} event files of {num_runs} runs into {mirror.folder}")
    if not mirror.is_open and not program.has_events(mirror.folder):
        raise program.no_events(run_id)
    return mirror


def _server(run_id: str, tracking_uri: str | None) -> "TrackingServer":
    from sweeptrail.tracking.uri import sqlite_file, usable_uri

    uri = usable_uri(tracking_uri or "sqlite:///mlflow.db")
    file = sqlite_file(uri)
    if run_id == "latest" or (file and not file.exists()):
        raise SettingsError(
            f"expected latest, the folder of a sweep, or the id of a run, got {run_id!r}; there is no sweep in "
            f"{RUNS.absolute()}, and --tracking-uri takes ids only"
        )
    from sweeptrail.tracking.client import TrackingServer

    return TrackingServer(uri)


def _refresh(mirrors: "Sequence[Mirror]", running: "TensorBoard", seconds: float) -> None:
    """Fetch what is new for as long as runs are open."""
    is_behind = False
    while still_open := [mirror for mirror in mirrors if mirror.is_open]:
        running.wait(seconds)
        try:
            for mirror in still_open:
                mirror.look()
                sum(mirror.fetch())
        except SweeptrailError as error:
            if not is_behind:
                say(f"what is new cannot be fetched at the moment and is tried again ({error})")
            is_behind = True
        else:
            if is_behind:
                say("what is new has been fetched")
            is_behind = False
