"""What is wrong between the settings of a search that are each right."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweeptrail.search import tpe
from sweeptrail.search.ranges import Range
from sweeptrail.search.strategy import is_finite, single, varies

GRID, RANDOM, TPE = SEARCHES = ("grid", "random", "tpe")

ASHA = "asha"


def search_problems(values: Mapping[str, Any], axes: Sequence[str], listed: Sequence[object]) -> Iterator[str]:
    """Yield a line for each mistake; those settings are not there that have one of their own.

    `axes` are the hyperparameters, and `listed` the combinations where they are listed.
    """
    if "search" in values and "stop" in values:
        yield from _grid_problems(values, axes) if values["search"] == GRID else _choosing_problems(values, listed)
        if values["stop"]:
            yield from _stop_problems(values)


def _grid_problems(values: Mapping[str, Any], axes: Sequence[str]) -> Iterator[str]:
    for name in axes:
        choices = values.get(name)
        if isinstance(choices, Range) and not is_finite(choices):
            low, high = (str(each).removesuffix(".0") for each in (choices.low, choices.high))
            some = f"{low},{high}" if choices.is_log else f"{low}..{high}:{(choices.high - choices.low) / 4:g}"
            yield (
                f"{name}: expected values, whole numbers or a step in a grid, got {choices}; "
                f"write {name}={some}, or search=random trials=20"
            )
    if values.get("trials"):
        yield f"trials: a grid has all combinations, got trials={values['trials']}; write search=random or leave it out"


def _choosing_problems(values: Mapping[str, Any], listed: Sequence[object]) -> Iterator[str]:
    search = values["search"]
    if listed:
        yield f"search: the runs are listed, so there is nothing to choose, got {search}; leave search out"
    if "trials" in values and "budget" in values and not (values["trials"] or values["budget"]):
        yield f"search: expected an end of {search} search, got no trials and no budget; write trials=20 or budget=30m"
    if search == TPE and not tpe.is_installed():
        yield "search: tpe needs the package optuna; write pip install 'sweeptrail[tpe]', or search=random"


def _stop_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if "epochs" not in values:
        yield (
            f"stop: {ASHA} needs a task with a parameter epochs, after which runs can be stopped; "
            "write epochs: int = 9 and for epoch in manager.epochs(epochs, ...), or leave stop out"
        )
        return
    if varies(values["epochs"]):
        yield f"epochs: expected a single number with stop={ASHA}, got several; write epochs=9, say"
        return
    epochs = single(values["epochs"])
    if not isinstance(epochs, int) or isinstance(epochs, bool):
        yield f"epochs: expected a whole number with stop={ASHA}, got {epochs!r}; write epochs=9"
    elif values.get("min_epochs", 1) >= epochs:
        yield (
            f"min_epochs: expected less than the {epochs} epochs of a whole run, got {values['min_epochs']}; "
            f"write epochs={values['min_epochs'] * 9}, or leave out stop={ASHA}"
        )
    if varies(values.get("seed", ())):
        yield (
            f"seed: expected a single one with stop={ASHA}, which compares runs and not their means, "
            f"got {len(values['seed'])}; write seed=0, or leave out stop={ASHA}"
        )
