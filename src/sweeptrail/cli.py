"""Words on the command line to calls in the library."""

import os
from typing import Any

import click

from sweeptrail import __version__
from sweeptrail.errors import SweeptrailError, UsageError
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


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@_setting_options
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]")
@click.option("--experiment", envvar="MLFLOW_EXPERIMENT_NAME", show_envvar=True, help="[default: MLflow's own]")
@click.option("--runs-dir", default="auto", help="where the folder of the sweep is made  [default: runs]")
@click.option("--tracking/--no-tracking", default=True, help="tell TensorBoard and MLflow, or keep the table alone")
@click.pass_context
def sweep(
    context: click.Context, /, tracking_uri: str, experiment: str, runs_dir: str, tracking: bool, **texts: str | None
) -> None:
    """Train a network for every combination of hyperparameters.

    \b
    Example:
      sweeptrail sweep --lr 0.01,0.001 --batch-size 100 --epochs 2 --optimizer adam,sgd
    """
    from sweeptrail.plan import make_plan
    from sweeptrail.sinks.console import Console, show, summary
    from sweeptrail.sweep import refuse, run_sweep, whereabouts
    from sweeptrail.tracking import Tracking

    given = {name: text for name, text in texts.items() if text is not None}
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    try:
        plan = make_plan(
            {**given, **_unknown_options(context.args)},
            lambda: Tracking.from_environment(uri=tracking_uri or "", experiment=experiment or ""),
            runs_dir=runs_dir,
            tracked=tracking,
        )
    except UsageError as error:
        if run_id:
            refuse(tracking_uri, run_id, error)
        raise
    outcome = run_sweep(plan, Console(len(plan.settings.grid())), _say)
    show(summary(outcome.results, "validation_accuracy" if plan.settings.validation_samples else "accuracy"))
    for line in whereabouts(plan, outcome):
        click.echo(line)
    context.exit(outcome.exit_code)


def _say(message: str) -> None:
    click.echo(f"sweeptrail: {message}", err=True)


def _unknown_options(arguments: list[str]) -> dict[str, str]:
    """Return what no option takes as settings, so that its mistake is named among the others."""
    options = [argument for argument in arguments if argument.startswith("-")]
    names = [option.lstrip("-").partition("=")[0].replace("-", "_") for option in options] or arguments
    return dict.fromkeys(names, "")
