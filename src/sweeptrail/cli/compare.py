"""The command that compares sweeps: compare."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from sweeptrail.cli.group import main, say
from sweeptrail.errors import SettingsError, UsageError
from sweeptrail.records import Goal


@main.command()
@click.argument("which", metavar="[SWEEP]...", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json", "html"]), default="table", show_default=True
)
@click.option(
    "--goal", default="", metavar="max:NAME|min:NAME", help="the metric to rank by  [default: the sweep's own]"
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="a file to write to  [default: none]")
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]")
@click.option("--runs-dir", default="auto", help="where the folders of sweeps are  [default: runs]")
def compare(
    which: tuple[str, ...], form: Any, output: Path | None, *, goal: str, tracking_uri: str | None, runs_dir: str
) -> None:
    """Rank the combinations of one sweep, or of several together.

    SWEEP is `latest`, the folder of a sweep, its name, or the id of its parent run, which may be known
    to the tracking server only; several may also be separated by commas.

    \b
    Example:
      sweeptrail compare
      sweeptrail compare latest 2026-01-31_12-00-00 --format csv
      sweeptrail compare latest --goal min:validation_loss
      sweeptrail compare latest --format html --output report.html
    """
    from sweeptrail.cli.project_run import refuse, tag
    from sweeptrail.outbox import sweep_folder
    from sweeptrail.results.compare import find, render, with_unique_names
    from sweeptrail.results.leaderboard import make_leaderboard
    from sweeptrail.results.words import why_no_champion
    from sweeptrail.system.files import write_whole
    from sweeptrail.system.terminal import shown
    from sweeptrail.tracking.uri import Tracking

    own_run = os.environ.get("MLFLOW_RUN_ID", "")  # that `mlflow run` has opened
    try:
        tracking = Tracking.from_environment(uri=tracking_uri or "")
        home = sweep_folder.home(tracking) / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
        wanted = [name.strip() for one in which or ("latest",) for name in one.split(",")]
        ranked_by = _goal(goal) if goal else None
        board = make_leaderboard(with_unique_names(find(one, home, tracking) for one in wanted), ranked_by)
    except UsageError as error:
        if own_run:
            refuse(tracking_uri or "", own_run, error)
        raise
    text, why = render(board, form), why_no_champion(board)
    if form == "csv" and why:  # which has no room for it
        say(why)
    if own_run and form == "table":
        tag(tracking_uri or "", own_run, {"mlflow.note.content": f"```\n{text[:7000]}\n```"})
    if output:
        write_whole(output, text)
    else:
        # A file, or a program behind a pipe, gets every character as it is.
        click.echo(shown(text) if form == "table" or sys.stdout.isatty() else text, nl=False)


def _goal(text: str) -> Goal:
    try:
        return Goal.parse(text)
    except ValueError as error:
        raise SettingsError(f"goal: {error}; write min:loss, say") from error
