"""Words on the command line to calls in the library."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from sweeptrail import __version__
from sweeptrail.errors import Cancelled, DeliveryError, SweeptrailError, UsageError
from sweeptrail.settings import AXES, PARSERS, Settings, as_text


class Commands(click.Group):
    """Turns every error of the library into its lines and its exit code, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except SweeptrailError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            context.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="sweeptrail %(version)s")
def main() -> None:
    """Tracked hyperparameter sweeps: every run on MLflow and TensorBoard, none lost.

    \b
    Example:
      sweeptrail sweep --lr 0.01,0.001 --epochs 1
    """


TRACKING_URI = click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]"
)


def _setting_options(command: Any) -> Any:
    """Add an option for each setting; its default stands in the help and is not passed on."""
    for name, default in reversed(as_text(Settings()).items()):
        _, expected, _ = PARSERS[name]
        listed = ", separated by commas" if name in AXES else ""
        option = click.option(
            f"--{name.replace('_', '-')}", name, metavar="TEXT", help=f"{expected}{listed}  [default: {default}]"
        )
        command = option(command)
    return command


def _sweep_options(command: Any) -> Any:
    """Add what a sweep can be told: its settings, and where it reports and writes to."""
    for option in (
        click.option(
            "--tracking/--no-tracking", default=True, help="tell TensorBoard and MLflow, or write the table only"
        ),
        click.option("--runs-dir", default="auto", help="where the folder of the sweep is made  [default: runs]"),
        click.option("--experiment", envvar="MLFLOW_EXPERIMENT_NAME", show_envvar=True, help="[default: MLflow's own]"),
        TRACKING_URI,
    ):
        command = option(command)
    return _setting_options(command)


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--resume", default="none", help="latest, a folder, or a parent run's id: go on with that sweep")
@_sweep_options
@click.pass_context
def sweep(context: click.Context, /, **options: Any) -> None:
    """Train a network for every combination of hyperparameters.

    \b
    Example:
      sweeptrail sweep --lr 0.01,0.001 --batch-size 100 --epochs 2 --optimizer adam,sgd
    """
    _sweep(context, **options)


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("resume", metavar="[SWEEP]", default="latest")
@_sweep_options
@click.pass_context
def resume(context: click.Context, /, **options: Any) -> None:
    """Go on with a sweep exactly where it stopped.

    SWEEP is `latest`, the folder of a sweep, or the id of its parent run, which may be known to the
    tracking server only. Finished runs are skipped. More values of an axis add runs.

    \b
    Example:
      sweeptrail resume
      sweeptrail resume runs/2026-01-31_12-00-00 --lr 0.01,0.001,0.0001
    """
    _sweep(context, **options)


def _sweep(
    context: click.Context,
    *,
    tracking_uri: str | None,
    experiment: str | None,
    runs_dir: str,
    tracking: bool,
    resume: str,
    **texts: str | None,
) -> None:
    from sweeptrail.engines.forkserver import ForkServer

    server = ForkServer()
    if texts["engine"] in (None, "processes"):
        server.start()  # importing torch takes longer than all that there is to do before it is needed

    from sweeptrail.plan import make_plan
    from sweeptrail.signals import stoppable
    from sweeptrail.sinks.console import Console, show, summary
    from sweeptrail.sweep import program, refuse, run_sweep, whereabouts
    from sweeptrail.tracking import Tracking

    given = {name: text for name, text in texts.items() if text is not None}
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    try:
        with stoppable(), closing(server):
            plan = make_plan(
                {**given, **_unknown_options(context.args)},
                lambda: Tracking.from_environment(uri=tracking_uri or "", experiment=experiment or ""),
                resume=resume,
                runs_dir=runs_dir,
                tracked=tracking,
            )
            outcome = run_sweep(plan, Console, _say, server)
    except UsageError as error:
        if run_id:
            refuse(tracking_uri or "", run_id, error)
        raise
    except Cancelled as stopped:
        _say(f"stopped; to go on: {program('sweeptrail')} resume")
        context.exit(stopped.args[0])
    show(summary(outcome.results, "validation_accuracy" if plan.settings.validation_samples else "accuracy"))
    for line in whereabouts(plan, outcome):
        click.echo(line)
    context.exit(outcome.exit_code)


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
    from sweeptrail import upkeep
    from sweeptrail.tracking import usable_uri

    uri = usable_uri(tracking_uri) if tracking_uri else ""
    failed = None
    for sweep_folder in upkeep.sweeps(folder):
        try:
            click.echo(f"{sweep_folder}: {upkeep.sync(sweep_folder, uri)} records delivered, none wait")
        except DeliveryError as error:  # the next may belong to another server
            failed = error
            click.echo(f"error: {error}", err=True)
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
    from sweeptrail import upkeep

    for sweep_folder in upkeep.sweeps(folder):
        found = upkeep.condition(sweep_folder)
        runs = ", ".join(f"{count} {name}" for name, count in found.runs.items()) or "no runs"
        sent = f"{found.waiting} records wait for" if found.waiting else "all delivered to"
        click.echo(f"{sweep_folder}  {found.status}  {runs}  {sent} {found.tracking_uri}")


@main.command()
@FOLDER
def reap(folder: Path) -> None:
    """Close, as KILLED, what a process that died has left RUNNING, and deliver that.

    \b
    Example:
      sweeptrail reap
    """
    from sweeptrail import upkeep

    for sweep_folder in upkeep.sweeps(folder):
        closed = upkeep.reap(sweep_folder)
        if closed is not None:
            click.echo(f"{sweep_folder}: closed the sweep and {closed} open runs")
            upkeep.sync(sweep_folder, "")


def _say(message: str) -> None:
    click.echo(f"sweeptrail: {message}", err=True)


def _unknown_options(arguments: list[str]) -> dict[str, str]:
    """Return what no option takes as settings, so that its mistake is named among the others."""
    options = [argument for argument in arguments if argument.startswith("-")]
    names = [option.lstrip("-").partition("=")[0].replace("-", "_") for option in options] or arguments
    return dict.fromkeys(names, "")
