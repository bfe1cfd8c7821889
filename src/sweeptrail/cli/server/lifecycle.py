"""Commands that start and end a team's server, and tell how it is."""

import sys
import time
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.group import say
from sweeptrail.cli.server.group import FOLDER, checked_configuration, configuration_options, server
from sweeptrail.errors import Cancelled

if TYPE_CHECKING:
    from sweeptrail.server.folder import ServerFolder


@server.command()
@FOLDER
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on")
@click.option("--port", default=5000, show_default=True, help="the port to listen on")
@click.option("--allowed-hosts", default="", help="what clients call it by, separated by commas; needed with --host")
@configuration_options
@click.option("--shared-write", is_flag=True, help="accounts write in what others have made too, not only in their own")
@click.option("--background", is_flag=True, help="return when it answers, instead of staying in the terminal")
@click.option("--quiet", is_flag=True, hidden=True)
def start(
    folder: "ServerFolder",
    host: str,
    port: int,
    allowed_hosts: str,
    database_url: str,
    artifacts: str,
    shared_write: bool,
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
    from sweeptrail.server.app.address import Address
    from sweeptrail.system.signals import stoppable

    names = tuple(name.strip() for name in allowed_hosts.split(",") if allowed_hosts)
    address = Address(host, port, names)
    configuration = checked_configuration(database_url, artifacts)
    if background:
        words = ["--folder", str(folder.path), "--host", host, "--port", str(port)]
        for name, value in (
            ("--allowed-hosts", allowed_hosts),
            ("--database-url", configuration.database_url),
            ("--artifacts", configuration.artifacts),
        ):
            words += [name, value] if value else []
        words += ["--shared-write"] if shared_write else []
        is_first = not folder.served.exists()
        supervisor.start_in_background(folder, words)
        _announce(folder, address.uri, is_first, shows_password=True)
        return

    def announce(is_first: bool) -> None:
        if not quiet:
            # What a service prints goes into a log, where no password belongs.
            _announce(folder, address.uri, is_first, shows_password=sys.stdout.isatty())

    def tell(message: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
        folder.write_log(line)
        say(message)

    try:
        with stoppable():
            supervisor.serve(folder, address, configuration, shared_write=shared_write, say=tell, ready=announce)
    except Cancelled:
        tell("the server was ended")


def _announce(folder: "ServerFolder", uri: str, is_first: bool, *, shows_password: bool) -> None:
    click.echo(f"server:    {uri}")
    click.echo(f"folder:    {folder.path}")
    if is_first:
        where = folder.path / "secrets.json"
        shown = f"{folder.secrets().admin_password} (printed this once; kept in {where})"
        click.echo(f"admin:     password {shown if shows_password else f'kept in {where}'}")
        click.echo("next:      sweeptrail server add-user NAME")


@server.command()
@FOLDER
def stop(folder: "ServerFolder") -> None:
    """End the server, then its database, in good order.

    \b
    Example:
      sweeptrail server stop
    """
    from sweeptrail.server import supervisor

    supervisor.stop(folder)


@server.command(name="status")
@FOLDER
def show_status(folder: "ServerFolder") -> None:
    """Show where the server runs and whether it answers; exit code 1 when it does not.

    \b
    Example:
      sweeptrail server status
    """
    from sweeptrail.server.app import launch

    state = folder.state()
    answer = launch.answer(state["uri"])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["since"]))
    click.echo(f"server:    {state['uri']}  {'answers' if answer == 'ok' else f'does not answer: {answer}'}")
    click.echo(f"since:     {since}, process {state['pid']}")
    for name, service in state["services"].items():
        click.echo(f"{name + ':':<17} process {service['pid']}, started again {service['restarts']} times")
    click.echo(f"folder:    {folder.path}")
    if answer != "ok":
        sys.exit(1)


@server.command()
@FOLDER
@click.option("--lines", default=50, show_default=True, help="how many lines of each log")
@click.option("--audit", is_flag=True, help="who changed what, and what was refused, from where and when")
def logs(folder: "ServerFolder", lines: int, audit: bool) -> None:
    """Show the last lines of what the server, MLflow and the database have said.

    \b
    Example:
      sweeptrail server logs --lines 200
      sweeptrail server logs --audit
    """
    from sweeptrail.system.terminal import shown

    folder.configuration()  # raises an error where no server was ever started
    for path in [folder.audit_log] if audit else sorted(set(folder.logs.glob("*.log")) - {folder.audit_log}):
        click.echo(f"==> {path} <==")
        content = path.read_text(errors="replace") if path.exists() else ""
        for line in content.splitlines()[-lines:]:
            click.echo(shown(line))
