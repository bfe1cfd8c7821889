"""The commands that look after the folders of sweeps: sync, status, reap."""

import sys
from pathlib import Path

import click

from sweeptrail.cli.group import main, say
from sweeptrail.errors import DeliveryError

FOLDER = click.argument("folder", type=click.Path(path_type=Path), default="runs")


@main.command()
@FOLDER
@click.option("--tracking-uri", help="another server than the one the sweep has reported to")
def sync(folder: Path, tracking_uri: str | None) -> None:
    """Deliver to the tracking server what it has not got yet, with the original times.

    FOLDER is a sweep's, or one that holds sweeps.

    \b
    Example:
      sweeptrail sync
      sweeptrail sync runs/2026-01-31_12-00-00 --tracking-uri http://HOST:5000
    """
    from sweeptrail.sweeps import maintenance
    from sweeptrail.system.terminal import shown
    from sweeptrail.tracking.uri import usable_uri

    uri = usable_uri(tracking_uri) if tracking_uri else ""
    failed = None
    for sweep_folder in maintenance.sweeps(folder):
        try:
            delivered, refusals = maintenance.sync(sweep_folder, uri)
            click.echo(f"{sweep_folder}: {delivered} records delivered, none wait")
            for refusal in refusals:
                say(f"the tracking server refused for good, kept on disk: {refusal}")
        except DeliveryError as error:  # the next may belong to another server
            failed = error
            click.echo(shown(f"error: {error}"), err=True)
    if failed:
        sys.exit(failed.exit_code)


@main.command()
@FOLDER
def status(folder: Path) -> None:
    """Show sweeps, their runs, and what waits for the tracking server, without asking it.

    \b
    Example:
      sweeptrail status
    """
    from sweeptrail.sweeps import maintenance
    from sweeptrail.system.terminal import shown

    for sweep_folder in maintenance.sweeps(folder):
        found = maintenance.condition(sweep_folder)
        runs = ", ".join(f"{count} {name}" for name, count in found.runs.items()) or "no runs"
        sent = f"{found.waiting} records wait for" if found.waiting else "all delivered to"
        click.echo(shown(f"{sweep_folder}  {found.status}  {runs}  {sent} {found.tracking_uri}"))


@main.command()
@FOLDER
def reap(folder: Path) -> None:
    """Close, as KILLED, what a process that died has left RUNNING, and deliver that.

    \b
    Example:
      sweeptrail reap
    """
    from sweeptrail.sweeps import maintenance

    for sweep_folder in maintenance.sweeps(folder):
        closed = maintenance.reap(sweep_folder)
        if closed is not None:
            click.echo(f"{sweep_folder}: closed the sweep and {closed} open runs")
            maintenance.sync(sweep_folder, "")
