"""The commands that carry out a sweep: sweep, resume."""

import os
from contextlib import closing
from functools import partial
from itertools import zip_longest
from typing import Any

import click

from sweeptrail.cli.group import main, say
from sweeptrail.errors import Cancelled, UsageError
from sweeptrail.sweeps.options import TAG
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.task import DEFAULT_TASK, find_task

TRACKING_URI = click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]"
)

AS_MLFLOW_PASSES_THEM = {
    "ignore_unknown_options": True,  # they are among the words, and named with all other mistakes
    "token_normalize_func": lambda name: name.replace("_", "-"),
}
"""`mlflow run` passes a parameter that MLproject does not declare as `--run_timeout 60`."""


def _joined(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) if values else None


def _setting_options(command: Any) -> Any:
    """Add an option for each setting; its default stands in the help and is not passed on."""
    for each in reversed(parameters_of(find_task(DEFAULT_TASK))):
        listed = ", separated by commas" if each.is_axis else ""
        text = f"{each.meaning.replace('`', '')}: {each.expected}{listed}  [default: {each.default}]"
        more: Any = {"multiple": True, "callback": _joined} if each.name == TAG else {}
        command = click.option(f"--{each.name.replace('_', '-')}", each.name, metavar="TEXT", help=text, **more)(
            command
        )
    return command


def _sweep_options(command: Any) -> Any:
    """Add what a sweep can be told: its settings, and where it reports and writes to."""
    for option in (
        click.option(
            "--tracking/--no-tracking", default=True, help="tell TensorBoard and MLflow, or write the table only"
        ),
        click.option("--dry-run", type=bool, default=False, metavar="", help="list the runs and estimate their time"),
        click.option("--runs-dir", default="auto", help="where the folder of the sweep is made  [default: runs]"),
        click.option("--experiment", envvar="MLFLOW_EXPERIMENT_NAME", show_envvar=True, help="[default: MLflow's own]"),
        TRACKING_URI,
    ):
        command = option(command)
    return _setting_options(command)


class _Command(click.Command):
    """A command whose option `--dry-run` takes a value, as MLproject gives one, and does without."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        args = [
            "--dry-run=true" if word.replace("_", "-") == "--dry-run" and after not in ("true", "false") else word
            for word, after in zip_longest(args, args[1:], fillvalue="")
        ]
        return super().parse_args(context, args)


def _task_options(command: Any) -> Any:
    """Add what names the task and its hyperparameters, as `mlflow run` passes them; by hand they are plain words."""
    task = click.option("--task", default="", help="MODULE:FUNCTION of your own  [default: fashion-mnist]")
    space = click.option("--space", default="", help='its hyperparameters: "lr=0.1,0.01 hidden=64"')
    return task(space(_sweep_options(command)))


@main.command(cls=_Command, context_settings=AS_MLFLOW_PASSES_THEM)
@click.argument("words", metavar="[TASK] [NAME=VALUES]...", nargs=-1)
@click.option("--resume", default="none", help="latest, a folder, or a parent run's id: go on with that sweep")
@_task_options
@click.pass_context
def sweep(context: click.Context, /, words: tuple[str, ...], **options: Any) -> None:
    """Train for every combination of hyperparameters.

    TASK is MODULE:FUNCTION: a function of your own, whose keyword-only parameters are the
    hyperparameters. Without one, the built-in fashion-mnist is trained.

    \b
    Example:
      sweeptrail sweep digits:train lr=0.1,0.01 hidden=64,128 --goal max:validation_accuracy
      sweeptrail sweep --lr 0.01,0.001 --batch-size 100 --epochs 2 --optimizer adam,sgd
    """
    _sweep(context, words, **options)


@main.command(cls=_Command, context_settings=AS_MLFLOW_PASSES_THEM)
@click.argument("words", metavar="[SWEEP] [NAME=VALUES]...", nargs=-1)
@_task_options
@click.pass_context
def resume(context: click.Context, /, words: tuple[str, ...], **options: Any) -> None:
    """Go on with a sweep exactly where it stopped.

    SWEEP is `latest`, the folder of a sweep, or the id of its parent run, which may be known to the
    tracking server only. Finished runs are skipped. More values of an axis add runs.

    \b
    Example:
      sweeptrail resume
      sweeptrail resume runs/2026-01-31_12-00-00 --lr 0.01,0.001,0.0001
      sweeptrail resume latest lr=0.1,0.01,0.001
    """
    is_named = words and "=" not in words[0] and not words[0].startswith("-")
    which, rest = (words[0], words[1:]) if is_named else ("latest", words)
    _sweep(context, rest, resume=which, **options)


def _sweep(
    context: click.Context,
    words: tuple[str, ...],
    *,
    task: str,
    space: str,
    tracking_uri: str | None,
    experiment: str | None,
    runs_dir: str,
    tracking: bool,
    dry_run: bool,
    resume: str,
    **texts: str | None,
) -> None:
    from sweeptrail.engines.processes.forkserver import ForkServer
    from sweeptrail.sweeps.asked import read_words
    from sweeptrail.system.extras import is_installed

    given = {name: text for name, text in texts.items() if text is not None}
    asked = read_words(words, task=task, space=space, options=given)
    built_in = find_task(DEFAULT_TASK)
    server = ForkServer(built_in.preload)
    is_likely = given.get("engine", "processes") == "processes" and asked.task in ("", DEFAULT_TASK)
    if is_likely and all(map(is_installed, built_in.packages)):
        server.start()  # importing torch takes longer than all that there is to do before it is needed

    from sweeptrail.cli.outcome import program, where_to_look
    from sweeptrail.cli.project_run import refuse
    from sweeptrail.sweeps.dry_run import dry_run as preview
    from sweeptrail.sweeps.plan import make_plan
    from sweeptrail.sweeps.run import engine_of, run_sweep
    from sweeptrail.system.signals import stoppable
    from sweeptrail.tasks.find import Finder
    from sweeptrail.tracking.uri import Tracking
    from sweeptrail.training.sinks.console import for_sweep, show, summary

    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    try:
        with stoppable(), closing(server), Finder() as find:
            plan = make_plan(
                asked,
                lambda: Tracking.from_environment(uri=tracking_uri or "", experiment=experiment or ""),
                find,
                resume=resume,
                runs_dir=runs_dir,
                tracked=tracking,
            )
            if dry_run:
                found = preview(plan, partial(engine_of, server=server))
                click.echo(str(found))
                context.exit(found.exit_code)
            outcome = run_sweep(plan, partial(engine_of, server=server), for_sweep, say)
    except UsageError as error:
        if run_id:
            refuse(tracking_uri or "", run_id, error)
        raise
    except Cancelled as stopped:
        say(f"stopped; to go on: {program('sweeptrail')} resume")
        context.exit(stopped.args[0])
    show(summary(outcome.leaderboard))
    for line in where_to_look(plan, outcome):
        click.echo(line)
    context.exit(outcome.exit_code)
