"""The command that compares sweeps: compare."""

from pathlib import Path
from typing import Any

import click

from sweeptrail.cli.group import main


@main.command()
@click.argument("which", metavar="[SWEEP]...", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json", "html"]), default="table", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="a file to write to  [default: none]")
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="[default: sqlite:///mlflow.db]")
@click.option("--runs-dir", default="auto", help="where the folders of sweeps are  [default: runs]")
def compare(which: tuple[str, ...], form: Any, output: Path | None, tracking_uri: str | None, runs_dir: str) -> None:
    """Rank the combinations of one sweep, or of several together.

    SWEEP is `latest`, the folder of a sweep, its name, or the id of its parent run, which may be known
    to the tracking server only.

    \b
    Example:
      sweeptrail compare
      sweeptrail compare latest 2026-01-31_12-00-00 --format csv
      sweeptrail compare latest --format html --output report.html
    """
    from sweeptrail import folders
    from sweeptrail.compare import find, render, without_repetition
    from sweeptrail.leaderboard import make_leaderboard
    from sweeptrail.results import write_whole
    from sweeptrail.tracking import Tracking

    tracking = Tracking.from_environment(uri=tracking_uri or "")
    home = folders.home(tracking) / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
    found = [entrant for one in which or ("latest",) for entrant in find(one, home, tracking)]
    text = render(make_leaderboard(without_repetition(found)), form, home)
    if output:
        write_whole(output, text)
    else:
        click.echo(text, nl=False)
