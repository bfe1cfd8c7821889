"""The commands that look after the folders of sweeps and the outboxes of this machine: sync, status, reap."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.group import main, say
from sweeptrail.errors import SweeptrailError

if TYPE_CHECKING:
    from sweeptrail.outbox.machine.condition import Condition

FOLDER = click.argument("folder", type=click.Path(path_type=Path), required=False)


@main.command()
@FOLDER
@click.option("--tracking-uri", help="another server than the one a sweep has reported to")
def sync(folder: Path | None, tracking_uri: str | None) -> None:
    """Deliver to the tracking server what it has not got yet, with the original times.

    FOLDER is a sweep's or an outbox's, or one that holds such; without it, all sweeps in `runs` and
    all outboxes of this machine, to which MLflow code writes by `sweeptrail+http://`.

    \b
    Example:
      sweeptrail sync
      sweeptrail sync runs/2026-01-31_12-00-00 --tracking-uri http://HOST:5000
    """
    from sweeptrail.sweeps import maintenance
    from sweeptrail.tracking.uri import usable_uri

    uri = usable_uri(tracking_uri) if tracking_uri else ""
    sweeps, outboxes = maintenance.looked_after(folder)

    def deliver(each: Path) -> None:
        found = _sync_outbox(each, uri) if each in outboxes else maintenance.sync(each, uri)
        if found is None:
            return
        delivered, refusals = found
        click.echo(f"{each}: {delivered} records delivered, none wait")
        for refusal in refusals:
            say(f"the tracking server refused for good, kept on disk: {refusal}")

    _for_each([*outboxes, *sweeps], deliver)  # the run that a sweep belongs to may be in an outbox


def _sync_outbox(folder: Path, uri: str) -> tuple[int, list[str]] | None:
    """Deliver an outbox; None if that is one of another server than the one that was asked for."""
    from sweeptrail.outbox.machine.delivering import sync
    from sweeptrail.outbox.machine.place import read_place
    from sweeptrail.tracking.uri import without_credentials

    place = read_place(folder)
    if uri and without_credentials(uri) != place.server:
        say(f"{folder} is left out: what is there belongs to {place.server}")
        return None
    return sync(replace(place, uri=uri or place.uri))


@main.command()
@FOLDER
def status(folder: Path | None) -> None:
    """Show sweeps and outboxes, and what waits for the tracking server, without asking it.

    Of an outbox the runs that are open or not delivered whole; all of them if it is the FOLDER. Each
    has two ids, the one that it has here and the one on the server.

    \b
    Example:
      sweeptrail status
    """
    from sweeptrail.outbox.machine.condition import condition
    from sweeptrail.outbox.machine.place import is_outbox, read_place
    from sweeptrail.sweeps import maintenance
    from sweeptrail.system.terminal import shown

    sweeps, outboxes = maintenance.looked_after(folder)

    def show(each: Path) -> None:
        if each in outboxes:
            outbox = condition(read_place(each), all_runs=folder is not None and is_outbox(folder))
            click.echo(shown("\n".join(_lines(outbox))))
            return
        found = maintenance.condition(each)
        runs = ", ".join(f"{count} {name}" for name, count in found.runs.items()) or "no runs"
        click.echo(shown(f"{each}  {found.status}  {runs}  {_sent(found.waiting)} {found.tracking_uri}"))

    _for_each([*sweeps, *outboxes], show)


def _sent(waiting: int) -> str:
    return f"{waiting} records wait for" if waiting else "all delivered to"


def _lines(outbox: "Condition") -> Iterator[str]:
    """Yield a line for an outbox, and one for each of its runs; names of others get no line of their own."""
    courier = "its courier is at work" if outbox.is_delivering else "no courier is at work"
    yield f"{outbox.place.folder}  {outbox.num_runs} runs  {_sent(outbox.waiting)} {outbox.place.server}  {courier}"
    for run in outbox.runs:
        name = " ".join(run.name.split())
        where = f"on the server {run.server_id}" if run.server_id else "not there yet"
        yield f"  {run.run_id}  {where}  {name}  {run.status}  {run.waiting} records wait"


@main.command()
@FOLDER
def reap(folder: Path | None) -> None:
    """Close, as KILLED, what a process that died has left RUNNING, and deliver that.

    \b
    Example:
      sweeptrail reap
    """
    from sweeptrail.outbox.machine import delivering
    from sweeptrail.outbox.machine.place import read_place
    from sweeptrail.sweeps import maintenance

    sweeps, outboxes = maintenance.looked_after(folder)

    def close(each: Path) -> None:
        if each in outboxes:
            if closed := delivering.reap(read_place(each)):
                click.echo(f"{each}: closed {closed} open runs")
                _sync_outbox(each, "")
        elif (closed_runs := maintenance.reap(each)) is not None:
            click.echo(f"{each}: closed the sweep and {closed_runs} open runs")
            maintenance.sync(each, "")

    _for_each([*outboxes, *sweeps], close)


def _for_each(folders: list[Path], action: Callable[[Path], None]) -> None:
    """Do it for each, also when one cannot be done, which then decides how the command ends."""
    from sweeptrail.system.terminal import shown

    exit_code = 0
    for folder in folders:
        try:
            action(folder)
        except SweeptrailError as error:  # the next may belong to another server
            exit_code = max(exit_code, error.exit_code)
            click.echo(shown(f"error: {error}"), err=True)
    if exit_code:
        sys.exit(exit_code)
