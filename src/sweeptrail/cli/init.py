"""The command that begins a project: init."""

import shlex
from pathlib import Path

import click

from sweeptrail.cli.group import main


@main.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Begin a project of your own in FOLDER.

    It has an MLproject, a conda.yaml, a task, its test and a README, which work as they are.
    Nothing that is there already is overwritten.

    \b
    Example:
      sweeptrail init my_project
      mlflow run my_project --env-manager local -P lr=0.1,0.01
    """
    from sweeptrail.system.extras import INSTALL, is_installed
    from sweeptrail.tasks.project.create import create

    names = create(folder)
    click.echo(f"{folder}: {', '.join(names)}")
    if not is_installed("torch"):
        click.echo(f"its task needs torch, which is not installed: {INSTALL}")
    click.echo(f"to run it: mlflow run {shlex.quote(str(folder))} --env-manager local -P lr=0.1,0.01")
