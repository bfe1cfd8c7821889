"""The command that says what a trained network sees in pictures: predict."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeptrail.cli.group import main

if TYPE_CHECKING:
    from sweeptrail.fashion_mnist.evaluation.predict import Prediction


@main.command()
@click.argument("model")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tracking-uri", default="", help="where the model is registered  [default: as for sweep]")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def predict(model: str, images: tuple[Path, ...], tracking_uri: str, form: str) -> None:
    """Say what is in pictures of clothes.

    MODEL is models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model, or a folder. IMAGE is a PNG or JPEG
    file, or an IDX file with many. A picture with a bright border is inverted: the network knows light clothes
    on black. Nothing in a model is executed; one with a pickle is refused.

    \b
    Example:
      sweeptrail predict models:/fashion-mnist@champion boot.png dress.jpg
    """
    from sweeptrail.system.extras import need

    need("sweeptrail predict", "torch")
    from sweeptrail.fashion_mnist.evaluation.predict import load
    from sweeptrail.fashion_mnist.evaluation.predict import predict as seen_in

    predictions = list(seen_in(load(model, tracking_uri), images))
    if form == "json":
        click.echo(json.dumps([asdict(prediction) for prediction in predictions], indent=2))
    else:
        click.echo("\n".join(_table(predictions)))


def _table(predictions: Iterable["Prediction"]) -> Iterable[str]:
    rows = [("image", "class", "probability", "runner-up", "")]
    rows += [
        (seen.image, seen.class_name, f"{seen.probability:.4f}", seen.runner_up, f"{seen.runner_up_probability:.4f}")
        for seen in predictions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
