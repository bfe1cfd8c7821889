"""Commands for who may use a team's server."""

import sys
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.server.group import FOLDER, server
from sweeptrail.errors import UsageError

if TYPE_CHECKING:
    from sweeptrail.server.folder import ServerFolder

PASSWORD = click.option("--password-stdin", is_flag=True, help="read the password from standard input, not make one up")


@server.command()
@FOLDER
@click.argument("name")
@click.option("--reader", is_flag=True, help="may look at everything and change nothing")
@PASSWORD
def add_user(folder: "ServerFolder", name: str, reader: bool, password_stdin: bool) -> None:
    """Make an account for NAME and print its password, once.

    Everybody with an account sees everything. A NAME may log runs into every experiment, and register models;
    a reader may not.

    \b
    Example:
      sweeptrail server add-user ada
      sweeptrail server add-user manager --reader
    """
    from sweeptrail.server import users

    given = _given_password(password_stdin)
    made = users.add(folder, name, permission="READ" if reader else "EDIT", password=given)
    _tell_client(folder, name, "" if given else made)


@server.command()
@FOLDER
@click.argument("name")
@PASSWORD
def set_password(folder: "ServerFolder", name: str, password_stdin: bool) -> None:
    """Give the account NAME another password, and print it, once.

    \b
    Example:
      sweeptrail server set-password ada
    """
    from sweeptrail.server import users

    given = _given_password(password_stdin)
    made = users.change_password(folder, name, given)
    _tell_client(folder, name, "" if given else made)


@server.command()
@FOLDER
@click.argument("name")
def remove_user(folder: "ServerFolder", name: str) -> None:
    """Delete the account NAME; what it has logged stays.

    \b
    Example:
      sweeptrail server remove-user ada
    """
    from sweeptrail.server import users

    users.remove(folder, name)


@server.command(name="users")
@FOLDER
def list_users(folder: "ServerFolder") -> None:
    """List the accounts.

    \b
    Example:
      sweeptrail server users
    """
    from sweeptrail.server import users

    for name in users.names(folder):
        click.echo(name)


@server.command()
@FOLDER
@click.argument("name")
@click.argument("permission", type=click.Choice(["READ", "USE", "EDIT", "MANAGE", "DENY"]))
@click.option("--experiment", default="", help="only this experiment, by its name")
@click.option("--model", default="", help="only this registered model, by its name")
def set_permission(folder: "ServerFolder", name: str, permission: str, experiment: str, model: str) -> None:
    """Let the account NAME do this with everything, or with one experiment or registered model.

    READ looks, EDIT writes, MANAGE also deletes and lets others in, DENY sees nothing.

    \b
    Example:
      sweeptrail server set-permission ada READ
      sweeptrail server set-permission ada MANAGE --experiment fashion
    """
    from sweeptrail.server import users

    if experiment and model:
        raise UsageError("--experiment, --model: expected one of them, got both; write the command twice")
    users.set_permission(folder, name, permission, experiment=experiment, model=model)


def _given_password(from_stdin: bool) -> str:
    if not from_stdin:
        return ""
    if password := sys.stdin.readline().rstrip("\r\n"):
        return password
    raise UsageError("--password-stdin: expected a password on standard input, got nothing")


def _tell_client(folder: "ServerFolder", name: str, password: str) -> None:
    click.echo(f"export MLFLOW_TRACKING_URI={folder.state()['uri']}")
    click.echo(f"export MLFLOW_TRACKING_USERNAME={name}")
    if password:
        click.echo(f"export MLFLOW_TRACKING_PASSWORD={password}")
