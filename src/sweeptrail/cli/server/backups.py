"""Commands that write a team's server into a file and read it back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.server.group import FOLDER, checked_configuration, configuration_options, server

if TYPE_CHECKING:
    from sweeptrail.server.folder import ServerFolder


@server.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(folder: "ServerFolder", file: Path) -> None:
    """Write the database with its users, the artifacts and the keys into FILE, also while the server runs.

    \b
    Example:
      sweeptrail server backup /backups/monday.tar
    """
    from sweeptrail.server.backup import archive

    count = archive.backup(folder, file.absolute())
    click.echo(f"{file}: the database and {count} artifacts, {file.stat().st_size / 1e6:.1f} MB")


@server.command()
@FOLDER
@configuration_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(folder: "ServerFolder", file: Path, database_url: str, artifacts: str) -> None:
    """Read what `backup` wrote into an empty folder, and an empty database or object store if they are given.

    \b
    Example:
      sweeptrail server restore /backups/monday.tar --folder /srv/restored
    """
    from sweeptrail.server.backup import archive

    configuration = checked_configuration(database_url, artifacts)
    count = archive.restore(folder, file, configuration)
    click.echo(f"{folder.path}: the database and {count} artifacts; start it with sweeptrail server start")
