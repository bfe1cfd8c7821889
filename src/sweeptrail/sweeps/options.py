"""What can be set of every sweep, whatever its task is."""

import re
from typing import Any

from sweeptrail.records import Goal
from sweeptrail.search.problems import ASHA, GRID, RANDOM, SEARCHES
from sweeptrail.search.text import OrNone, Parameter, boolean, duration, number, one_of

AUTO = "auto"

NAME, TAG = "name", "tag"

LONGEST_NOTE = 1000
"""Characters: what stands above the leaderboard leaves it room."""

RESERVED_TAGS = ("sweeptrail.", "mlflow.")

ENGINES = ("processes", "serial", "ray")


def _model_name(name: str) -> str:
    if set(name) & set("/:"):  # MLflow's registry takes none with these
        raise ValueError
    return name


def _folder_name(text: str) -> str:
    name = re.sub(r"[^\w.,=+-]+", "-", text)[:60].strip(".-")
    if name.lower() in ("", "none", "latest"):
        raise ValueError
    return name


def _note(text: str) -> str:
    if len(text) > LONGEST_NOTE:
        raise ValueError
    return text


def _tag(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or name.startswith(RESERVED_TAGS) or not re.fullmatch(r"[\w.\-/: ]{1,250}", name):
        raise ValueError
    return text


def _own(name: str, default: str, parse: Any, expected: str, meaning: str, **more: Any) -> Parameter:
    return Parameter(name, default, parse, expected, meaning, is_of_run=False, **more)


RUNS = _own(
    "runs",
    "none",
    OrNone("none", str),
    "a CSV file whose first line names hyperparameters, or none",
    "a CSV file with an explicit list of combinations: a line of names, then a line for each run",
    example="runs.csv",
    is_axis=True,
)


OWN = (
    _own(
        "search",
        GRID,
        one_of(SEARCHES),
        f"any of {', '.join(SEARCHES)}",
        "how combinations are chosen: all of a `grid`, at `random`, or near those that were good (`tpe`, by Optuna)",
        example=RANDOM,
    ),
    _own(
        "trials",
        "none",
        OrNone("none", number(int, 1)),
        "a whole number from 1, or none",
        "how many combinations a search tries",
        example="20",
    ),
    _own(
        "budget",
        "none",
        OrNone("none", duration),
        "a time such as 90s, 30m or 2h, or none",
        "the time after which no run begins any more, all sittings together: `90s`, `30m`, `2h`",
        example="30m",
    ),
    _own(
        "stop",
        "none",
        OrNone("none", one_of((ASHA,))),
        f"{ASHA} or none",
        "which runs get fewer epochs: `asha` takes the best of `eta` further each time, as the goal has it",
        example=ASHA,
    ),
    _own(
        "eta",
        "3",
        number(int, 2),
        "a whole number from 2",
        "with `stop=asha`: one run of so many is taken further, to so many times the epochs",
    ),
    _own(
        "min_epochs",
        "1",
        number(int, 1),
        "a whole number from 1",
        "with `stop=asha`: the epochs that each run gets",
    ),
    _own(
        "engine",
        ENGINES[0],
        one_of(ENGINES),
        f"any of {', '.join(ENGINES)}",
        "where the runs are carried out: in several `processes`, in this one (`serial`), or on a cluster (`ray`)",
    ),
    _own(
        "workers",
        "auto",
        OrNone("auto", number(int, 1)),
        "a whole number from 1, or auto",
        "how many runs at a time; `auto` is one for each core",
    ),
    _own(
        "retries", "1", number(int, 0), "a whole number from 0", "how often a run is tried again when its process died"
    ),
    _own(
        "run_timeout",
        "none",
        OrNone("none", duration),
        "a time such as 90s, 30m or 2h, or none",
        "how long a run may take: `90s`, `30m`, `2h`; one that takes longer is ended as FAILED",
        example="30m",
    ),
    _own(
        "gpus_per_run",
        "0",
        number(float, 0),
        "a number from 0",
        "how many GPUs Ray keeps for a run; several runs share one when it is less than 1",
        example="0.5",
    ),
    _own(
        "delivery_timeout",
        "10",
        number(float, 0),
        "seconds from 0",
        "seconds to wait at the end for a tracking server that accepts nothing",
    ),
    _own(
        "report", "true", boolean, "true or false", "whether `report.html` is drawn at the end, which takes two seconds"
    ),
    _own(
        "goal",
        "auto",
        OrNone("auto", Goal.parse),
        "max:METRIC or min:METRIC, or auto",
        "what ranks the runs; `auto` is validation accuracy, else accuracy, validation loss, loss",
        example="min:validation_rmse",
    ),
    _own(
        "register",
        AUTO,
        OrNone("none", _model_name),
        "a name without / and :, none or auto",
        "the registered model that the champion becomes a version of, or `none`; `auto` is the task's name",
    ),
    _own(
        "log_models",
        "champion",
        one_of(("champion", "all")),
        "champion or all",
        "of which runs the weights become a model on the tracking server: the `champion`, or `all`",
    ),
    RUNS,
    _own(
        "max_runs",
        "10000",
        number(int, 1),
        "a whole number from 1",
        "how many runs a sweep may have: more are most likely a mistake",
    ),
    _own(
        NAME,
        AUTO,
        OrNone(AUTO, _folder_name),
        "a name with letters or digits, not latest, or auto",
        "what the sweep's folder and its own run are called; `auto` is the time",
        example="first-try",
    ),
    _own(
        "note",
        "none",
        OrNone("none", _note),
        f"Markdown, {LONGEST_NOTE} characters at most, or none",
        "what the description of the sweep's own run begins with",
        example="a-try-with-small-networks",
    ),
    _own(
        TAG,
        "none",
        OrNone("none", _tag),
        f"KEY=VALUE, no key that begins with {' or '.join(RESERVED_TAGS)}, or none",
        "tags of all runs, `KEY=VALUE`, several separated by commas",
        example="team=vision",
        is_axis=True,
    ),
)
