"""The group of commands for the server that a team shares, and the options that several of them have."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeptrail.cli.group import Commands, main

if TYPE_CHECKING:
    from sweeptrail.server.folder import Configuration, ServerFolder


@main.group(cls=Commands)
def server() -> None:
    """The tracking server that a team shares: MLflow's, on PostgreSQL, with logins.

    \b
    Example:
      sweeptrail server start
      sweeptrail server add-user ada
    """


def _server_folder(_: click.Context, __: click.Parameter, path: Path | None) -> "ServerFolder":
    from sweeptrail.server.folder import ServerFolder

    return ServerFolder.named(path)


FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SWEEPTRAIL_SERVER_FOLDER",
    show_envvar=True,
    callback=_server_folder,
    help="where the server keeps everything  [default: ~/.local/share/sweeptrail/server; root: /var/lib/sweeptrail]",
)


def configuration_options(command: Any) -> Any:
    """Give a command the options of where a server keeps its data."""
    for option in (
        click.option("--database-url", default="", help="a PostgreSQL of yours  [default: one of its own]"),
        click.option("--artifacts", default="", help="an object store, as s3://BUCKET/PATH  [default: in the folder]"),
    ):
        command = option(command)
    return command


def checked_configuration(database_url: str, artifacts: str) -> "Configuration":
    """Return the values of these options. Raises UsageError for what they cannot be."""
    from sweeptrail.server.folder import Configuration, checked_artifacts, checked_database_url

    return Configuration(checked_database_url(database_url), checked_artifacts(artifacts))
