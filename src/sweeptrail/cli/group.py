"""The command `sweeptrail`, and how every error becomes its lines and its exit code."""

import signal
from typing import Any

import click

from sweeptrail.errors import SweeptrailError
from sweeptrail.system.terminal import shown
from sweeptrail.version import __version__


class Commands(click.Group):
    """Turns every error of the library into its lines and its exit code, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except SweeptrailError as error:
            for line in shown(str(error)).splitlines():
                click.echo(f"error: {line}", err=True)
            context.exit(error.exit_code)
        except KeyboardInterrupt:  # before the command listens to signals itself
            click.echo("sweeptrail: stopped", err=True)
            context.exit(128 + signal.SIGINT)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="sweeptrail %(version)s")
def main() -> None:
    """Tracked hyperparameter sweeps: every run on MLflow and TensorBoard, none lost.

    \b
    Example:
      sweeptrail sweep --lr 0.01,0.001 --epochs 1
    """


def say(message: str) -> None:
    """Tell a person what should be known at once, on standard error."""
    click.echo(f"sweeptrail: {shown(message)}", err=True)
