"""The command that says what keeps a sweep from working: doctor."""

import os
import sys
from pathlib import Path

import click

from sweeptrail.cli.group import main


@main.command()
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]")
@click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", show_default=True)
@click.option("--data-dir", default="auto", help="the folder with the data  [default: where a sweep looks]")
def doctor(tracking_uri: str | None, runs_dir: Path, data_dir: str) -> None:
    """Say what keeps a sweep from working here, and what to do about it.

    Looks at the packages, the tracking server (address, clock, version, login, permission), the data,
    the disk, and what waits to be delivered, also in the outboxes of this machine. Name and password
    come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or from ~/.mlflow/credentials.
    Exit code 1 if there is a problem.

    \b
    Example:
      sweeptrail doctor
      sweeptrail doctor --tracking-uri https://mlflow.example.org
    """
    from sweeptrail.doctor import examine

    has_problem = False
    for finding in examine(tracking_uri or "", runs_dir, "" if data_dir == "auto" else data_dir, os.environ):
        todo = f"; to do: {finding.todo}" if finding.todo else ""
        click.echo(f"{finding.mark:<7}  {finding.what:<10}  {finding.found}{todo}")
        has_problem |= finding.mark == "problem"
    sys.exit(int(has_problem))
