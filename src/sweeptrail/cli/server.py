"""The commands for the server that a team shares."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from sweeptrail.cli.group import Commands, main, say
from sweeptrail.errors import Cancelled, UsageError

FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SWEEPTRAIL_SERVER_FOLDER",
    show_envvar=True,
    help="where the server keeps everything  [default: ~/.local/share/sweeptrail/server; root: /var/lib/sweeptrail]",
)
KEPT_OPTIONS = (
    click.option("--database-url", default="", help="a PostgreSQL of yours  [default: one of its own]"),
    click.option("--artifacts", default="", help="an object store, as s3://BUCKET/PATH  [default: in the folder]"),
)
PASSWORD = click.option("--password-stdin", is_flag=True, help="read the password from standard input, not make one up")


@main.group(cls=Commands)
def server() -> None:
    """The tracking server that a team shares: MLflow's, on PostgreSQL, with logins.

    \b
    Example:
      sweeptrail server start
      sweeptrail server add-user ada
    """


def _kept_options(command: Any) -> Any:
    for option in KEPT_OPTIONS:
        command = option(command)
    return command


@server.command()
@FOLDER
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on")
@click.option("--port", default=5000, show_default=True, help="the port to listen on")
@click.option("--allowed-hosts", default="", help="what clients call it by, separated by commas; needed with --host")
@_kept_options
@click.option("--background", is_flag=True, help="return when it answers, instead of staying in the terminal")
@click.option("--quiet", is_flag=True, hidden=True)
def start(
    folder: Path | None,
    host: str,
    port: int,
    allowed_hosts: str,
    database_url: str,
    artifacts: str,
    background: bool,
    quiet: bool,
) -> None:
    """Start the server and its database, and look after both until Ctrl-C, SIGTERM or `stop`.

    The first start makes the database, an administrator and a password, which it prints once. The password of a
    database of yours belongs into PGPASSWORD or ~/.pgpass, the keys of an object store into AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY (or where boto3 looks for them).

    \b
    Example:
      sweeptrail server start --background
      sweeptrail server start --host 0.0.0.0 --allowed-hosts mlflow.example.org
    """
    from sweeptrail.server import supervisor
    from sweeptrail.server.place import Kept, Place, checked_artifacts, checked_database_url
    from sweeptrail.server.tracker import Address
    from sweeptrail.system.signals import stoppable

    place = Place.named(folder)
    names = tuple(name.strip() for name in allowed_hosts.split(",") if allowed_hosts)
    address = Address(host, port, names)
    kept = Kept(checked_database_url(database_url), checked_artifacts(artifacts))
    if background:
        words = ["--folder", str(place.folder), "--host", host, "--port", str(port)]
        for name, value in (
            ("--allowed-hosts", allowed_hosts),
            ("--database-url", kept.database_url),
            ("--artifacts", kept.artifacts),
        ):
            words += [name, value] if value else []
        is_first = not place.served.exists()
        supervisor.start_in_background(place, words)
        _announce(place, address.uri, is_first, shows_password=True)
        return

    def announce(is_first: bool) -> None:
        if not quiet:
            # What a service prints goes into a log, where no password belongs.
            _announce(place, address.uri, is_first, shows_password=sys.stdout.isatty())

    def tell(message: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
        place.write_log(line)
        say(message)

    try:
        with stoppable():
            supervisor.serve(place, address, kept, say=tell, ready=announce)
    except Cancelled:
        tell("the server was ended")


def _announce(place: Any, uri: str, is_first: bool, *, shows_password: bool) -> None:
    click.echo(f"server:    {uri}")
    click.echo(f"folder:    {place.folder}")
    if is_first:
        where = place.folder / "secrets.json"
        shown = f"{place.secrets().admin_password} (printed this once; kept in {where})"
        click.echo(f"admin:     password {shown if shows_password else f'kept in {where}'}")
        click.echo("next:      sweeptrail server add-user NAME")


@server.command()
@FOLDER
def stop(folder: Path | None) -> None:
    """End the server, then its database, in good order.

    \b
    Example:
      sweeptrail server stop
    """
    from sweeptrail.server import supervisor
    from sweeptrail.server.place import Place

    supervisor.stop(Place.named(folder))


@server.command(name="status")
@FOLDER
def show_status(folder: Path | None) -> None:
    """Show where the server runs and whether it answers; exit code 1 when it does not.

    \b
    Example:
      sweeptrail server status
    """
    from sweeptrail.server import tracker
    from sweeptrail.server.place import Place

    place = Place.named(folder)
    state = place.state()
    answer = tracker.answer(state["uri"])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["since"]))
    click.echo(f"server:    {state['uri']}  {'answers' if answer == 'ok' else f'does not answer: {answer}'}")
    click.echo(f"since:     {since}, process {state['pid']}")
    for name, service in state["services"].items():
        click.echo(f"{name + ':':<17} process {service['pid']}, started again {service['restarts']} times")
    click.echo(f"folder:    {place.folder}")
    if answer != "ok":
        sys.exit(1)


@server.command()
@FOLDER
@click.option("--lines", default=50, show_default=True, help="how many lines of each log")
def logs(folder: Path | None, lines: int) -> None:
    """Show the last lines of what the server, MLflow and the database have said.

    \b
    Example:
      sweeptrail server logs --lines 200
    """
    from sweeptrail.server.place import Place

    place = Place.named(folder)
    place.kept()  # raises an error where no server was ever started
    for path in sorted(place.logs.glob("*.log")):
        click.echo(f"==> {path} <==")
        for line in path.read_text(errors="replace").splitlines()[-lines:]:
            click.echo(line)


@server.command()
@FOLDER
@click.argument("name")
@click.option("--reader", is_flag=True, help="may look at everything and change nothing")
@PASSWORD
def add_user(folder: Path | None, name: str, reader: bool, password_stdin: bool) -> None:
    """Make an account for NAME and print its password, once.

    Everybody with an account sees everything. A NAME may log runs into every experiment, and register models;
    a reader may not.

    \b
    Example:
      sweeptrail server add-user ada
      sweeptrail server add-user manager --reader
    """
    from sweeptrail.server import users
    from sweeptrail.server.place import Place

    place = Place.named(folder)
    given = _given_password(password_stdin)
    made = users.add(place, name, permission="READ" if reader else "EDIT", password=given)
    _tell_client(place, name, "" if given else made)


@server.command()
@FOLDER
@click.argument("name")
@PASSWORD
def set_password(folder: Path | None, name: str, password_stdin: bool) -> None:
    """Give the account NAME another password, and print it, once.

    \b
    Example:
      sweeptrail server set-password ada
    """
    from sweeptrail.server import users
    from sweeptrail.server.place import Place

    place = Place.named(folder)
    given = _given_password(password_stdin)
    made = users.change_password(place, name, given)
    _tell_client(place, name, "" if given else made)


@server.command()
@FOLDER
@click.argument("name")
def remove_user(folder: Path | None, name: str) -> None:
    """Delete the account NAME; what it has logged stays.

    \b
    Example:
      sweeptrail server remove-user ada
    """
    from sweeptrail.server import users
    from sweeptrail.server.place import Place

    users.remove(Place.named(folder), name)


@server.command(name="users")
@FOLDER
def list_users(folder: Path | None) -> None:
    """List the accounts.

    \b
    Example:
      sweeptrail server users
    """
    from sweeptrail.server import users
    from sweeptrail.server.place import Place

    for name in users.names(Place.named(folder)):
        click.echo(name)


@server.command()
@FOLDER
@click.argument("name")
@click.argument("permission", type=click.Choice(["READ", "USE", "EDIT", "MANAGE", "DENY"]))
@click.option("--experiment", default="", help="only this experiment, by its name")
@click.option("--model", default="", help="only this registered model, by its name")
def set_permission(folder: Path | None, name: str, permission: str, experiment: str, model: str) -> None:
    """Let the account NAME do this with everything, or with one experiment or registered model.

    READ looks, EDIT writes, MANAGE also deletes and lets others in, DENY sees nothing.

    \b
    Example:
      sweeptrail server set-permission ada READ
      sweeptrail server set-permission ada MANAGE --experiment fashion
    """
    from sweeptrail.server import users
    from sweeptrail.server.place import Place

    if experiment and model:
        raise UsageError("--experiment, --model: expected one of them, got both; write the command twice")
    users.set_permission(Place.named(folder), name, permission, experiment=experiment, model=model)


@server.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(folder: Path | None, file: Path) -> None:
    """Write the database with its users, the artifacts and the keys into FILE, also while the server runs.

    \b
    Example:
      sweeptrail server backup /backups/monday.tar
    """
    from sweeptrail.server import archive
    from sweeptrail.server.place import Place

    count = archive.backup(Place.named(folder), file.absolute())
    click.echo(f"{file}: the database and {count} artifacts, {file.stat().st_size / 1e6:.1f} MB")


@server.command()
@FOLDER
@_kept_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(folder: Path | None, file: Path, database_url: str, artifacts: str) -> None:
    """Read what `backup` wrote into an empty folder, and an empty database or object store if they are given.

    \b
    Example:
      sweeptrail server restore /backups/monday.tar --folder /srv/restored
    """
    from sweeptrail.server import archive
    from sweeptrail.server.place import Kept, Place, checked_artifacts, checked_database_url

    place = Place.named(folder)
    kept = Kept(checked_database_url(database_url), checked_artifacts(artifacts))
    count = archive.restore(place, file, kept)
    click.echo(f"{place.folder}: the database and {count} artifacts; start it with sweeptrail server start")


def _given_password(from_stdin: bool) -> str:
    if not from_stdin:
        return ""
    if password := sys.stdin.readline().rstrip("\r\n"):
        return password
    raise UsageError("--password-stdin: expected a password on standard input, got nothing")


def _tell_client(place: Any, name: str, password: str) -> None:
    click.echo(f"export MLFLOW_TRACKING_URI={place.state()['uri']}")
    click.echo(f"export MLFLOW_TRACKING_USERNAME={name}")
    if password:
        click.echo(f"export MLFLOW_TRACKING_PASSWORD={password}")
