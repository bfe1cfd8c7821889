"""A sweep as a call of Python's: `sweeptrail.sweep(train, {"lr": [0.1, 0.01]})`."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import Cancelled, SpaceError, UsageError
from sweeptrail.search import listed
from sweeptrail.search.ranges import looks_like_range
from sweeptrail.search.text import Parameter
from sweeptrail.sweeps.asked import Asked
from sweeptrail.sweeps.dry_run import DryRun
from sweeptrail.sweeps.dry_run import dry_run as preview
from sweeptrail.sweeps.options import OWN, RUNS
from sweeptrail.sweeps.plan import make_plan
from sweeptrail.sweeps.run import Outcome, engine_of, run_sweep
from sweeptrail.system.signals import stoppable
from sweeptrail.tasks.find import Finder, task_of
from sweeptrail.tasks.task import SEED, THREADS, Task
from sweeptrail.tracking.uri import Tracking

Space = Mapping[str, Sequence[Any] | str] | Sequence[Mapping[str, Any]]
"""Lists of values or ranges (`"log:1e-4..1e-1"`) by name, or a list of combinations."""


@overload
def sweep(
    task: Callable[..., Any] | str, space: Space | None = None, *, dry_run: Literal[False] = False, **settings: Any
) -> Outcome: ...


@overload
def sweep(
    task: Callable[..., Any] | str, space: Space | None = None, *, dry_run: Literal[True], **settings: Any
) -> DryRun: ...


def sweep(
    task: Callable[..., Any] | str,
    space: Space | None = None,
    *,
    dry_run: bool = False,
    goal: str = "auto",
    shared: Mapping[str, Any] | None = None,
    valid: Callable[..., bool] | None = None,
    resume: str | Path = "none",
    tracking_uri: str = "",
    experiment: str = "",
    runs_dir: str | Path = "auto",
    **settings: Any,
) -> Outcome | DryRun:
    """Carry out a task for every combination of hyperparameters, tracked, in several processes.

    `task` is a function `train(manager, *, lr=0.01)`, of a module, a script or a notebook, or the
    name `module:function` of one; `space` maps hyperparameters to lists of values or to ranges,
    `"log:1e-4..1e-1"`, or is a list of combinations, `[{"lr": 0.1, "hidden": 64}, ...]`; `goal` is
    `max:METRIC` or `min:METRIC`.
    `shared` are arrays that all processes read in the same memory, as `manager.shared[name]`, and
    `valid(**hyperparameters)` leaves combinations out. `resume` is `latest`, the folder of a sweep,
    or the id of its parent run. Further settings are those of `sweeptrail sweep`:
    `engine="serial"`, `workers=2`, `seed=[0, 1]`, `search="tpe"`, `trials=50`, `tag=["team=vision"]`.

    With `dry_run=True` nothing is carried out but an epoch of one run: what the sweep would do, and
    about how long it would take, is printed and returned, its runs as `.jobs`, its time as `.seconds`.

    >>> outcome = sweep(train, {"lr": [0.1, 0.01]}, goal="max:validation_accuracy")
    >>> outcome.champion.params
    {'lr': 0.1}

    Raises UsageError, with every mistake, before anything is trained, and KeyboardInterrupt when it
    is stopped.
    """
    from sweeptrail.training.sinks.console import for_sweep, show, summary

    is_main = threading.current_thread() is threading.main_thread()
    server = ForkServer(())
    try:
        with stoppable() if is_main else nullcontext(), closing(server), Finder() as finder:
            found = _task(finder, task, shared, valid, is_serial=settings.get("engine") == "serial")
            asked = Asked(_texts(settings, goal), task=found.name, space=_space(found, {} if space is None else space))
            plan = make_plan(
                asked,
                lambda: Tracking.from_environment(uri=tracking_uri, experiment=experiment),
                lambda _: found,
                resume=str(resume),
                runs_dir=str(runs_dir),
            )
            if dry_run:
                expected = preview(plan, partial(engine_of, server=server))
                print(expected)
                return expected
            outcome = run_sweep(plan, partial(engine_of, server=server), for_sweep, _say)
    except Cancelled as stopped:
        raise KeyboardInterrupt from stopped
    show(summary(outcome.leaderboard))
    return outcome


def _task(find: Finder, task: Any, shared: Mapping[str, Any] | None, valid: Any, *, is_serial: bool) -> Task:
    if not isinstance(task, str):
        return task_of(task, shared, valid, stays_here=is_serial)
    if shared is not None or valid:
        raise UsageError(
            f"shared and valid need a function, got the name {task!r}; import it, or write prepare() and valid() in it"
        )
    return find(task)


def _texts(settings: Mapping[str, Any], goal: str) -> dict[str, str]:
    """Return settings as a person would write them; raises UsageError for a name that there is not."""
    known = {each.name: each for each in (*OWN, SEED, THREADS)}
    texts = {"goal": goal} if goal != "auto" else {}
    for name, value in settings.items():
        parameter = known.get(name)
        texts[name] = _text(parameter, value) if parameter else ""
    return texts


def _text(parameter: Parameter, value: Any) -> str:
    if isinstance(value, str):
        return value
    values = value if isinstance(value, (list, tuple, range)) else [value]
    return parameter.text(tuple(values)) if parameter.is_axis else parameter.text(value)


def _space(task: Task, space: Space) -> dict[str, str]:
    """Return the values of each hyperparameter as text, which is checked as that is; raises SpaceError."""
    if not isinstance(space, Mapping):
        return _listed(task, space)
    known = {each.name: each for each in task.parameters}
    ranges = {name: text for name, text in space.items() if isinstance(text, str) and looks_like_range(text)}
    lists = {name: values for name, values in space.items() if name not in ranges}
    problems = [
        f"{name}: expected a list of values, got {values!r}; write [{values!r}] for a single value"
        for name, values in lists.items()
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__")
    ]
    texts = {}
    for name, values in lists.items() if not problems else ():
        problems += _odd(name, values)
        texts[name] = known[name].text(tuple(values)) if name in known else ""
    if problems:
        raise SpaceError(problems)
    return {name: ranges[name] if name in ranges else texts[name] for name in space}


def _listed(task: Task, combinations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the same for a list of combinations."""
    if isinstance(combinations, str) or not all(isinstance(each, Mapping) for each in combinations):
        raise SpaceError(
            f"space: expected lists of values by name, or a list of combinations, got {combinations!r}; "
            'write {"lr": [0.1, 0.01]} or [{"lr": 0.1}, {"lr": 0.01}]'
        )
    if problems := [line for each in combinations for name in each for line in _odd(name, [each[name]])]:
        raise SpaceError(problems)
    if not combinations:
        raise SpaceError('space: the list of combinations is empty; write [{"lr": 0.1}, {"lr": 0.01}]')
    texts = [listed.as_text(each, task.parameters) for each in combinations]
    _, problems = listed.read_texts(texts, task.parameters)
    if problems:
        raise SpaceError(problems)
    return {RUNS.name: RUNS.text(texts)}


def _odd(name: str, values: Sequence[Any]) -> list[str]:
    odd = [value for value in values if not isinstance(value, (bool, int, float, str, type(None)))]
    what = "expected numbers, text, true or false, or None"
    return [f"{name}: {what}, got {odd[0]!r}; write it as text"] if odd else []


def _say(message: str) -> None:
    print(f"sweeptrail: {message}", file=sys.stderr, flush=True)
