"""Early stopping side by side with Ray Tune's: the same 24 combinations, 9 epochs at most, two at a time.

By hand: python -m scripts.benchmarks.ray_tune [ROUNDS]; it needs ray[tune].
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.processes import run, scratch
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import EpochMetrics
from sweeptrail.training.manager import RunManager

EPOCHS, ETA, WORKERS = 9, 3, 2
SPACE = {"lr": (0.1, 0.003, 3.0, 0.03, 0.001, 0.3, 0.01, 1.0), "hidden": (32, 64, 128)}
DURATION = 0.2
"""Seconds of an epoch, slept, so that a busy machine does not change it."""

SPACE_WORDS = [f"{name}={','.join(map(str, values))}" for name, values in SPACE.items()]
COMMAND = [f"{__name__.replace('__main__', 'scripts.benchmarks.ray_tune')}:curve", *SPACE_WORDS, f"epochs={EPOCHS}"]
LIMITS = ["--workers", str(WORKERS), "--goal", "min:loss", "--report", "false", "--register", "none"]


class Trained:
    """What is trained has something to be kept in a checkpoint."""

    steps = 0

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.steps = state["steps"]


def loss(lr: float, hidden: int, epoch: int) -> float:
    """Return where training is after an epoch: slow learners begin behind, and may overtake."""
    final = abs(lr - 0.03) / (lr + 0.03) + 8 / hidden
    return float(final + (1 + 0.02 / lr) / epoch**1.5)


def curve(manager: RunManager, *, lr: float = 0.01, hidden: int = 64, epochs: int = EPOCHS) -> None:
    """Have the curve as a task of ours."""
    for epoch in manager.epochs(epochs, trained=Trained()):
        time.sleep(DURATION)
        manager.log(loss=loss(lr, hidden, epoch))


def with_ray() -> None:
    """Carry the same out with Ray Tune, and write what came of it to `figures.json`."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    def trainable(config: Mapping[str, Any]) -> None:
        for epoch in range(1, EPOCHS + 1):
            time.sleep(DURATION)
            tune.report({"loss": loss(**config, epoch=epoch)})

    ray.init(num_cpus=WORKERS, include_dashboard=False)
    scheduler = ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=ETA)
    tuner = tune.Tuner(
        trainable,
        param_space={name: tune.grid_search(list(values)) for name, values in SPACE.items()},
        tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(Path.cwd()), verbose=0),
    )
    found = tuner.fit()
    metrics = [found[index].metrics or {} for index in range(len(found))]
    epochs = sum(each["training_iteration"] for each in metrics)
    best = min(each["loss"] for each in metrics)
    whole = sum(each["training_iteration"] == EPOCHS for each in metrics)
    Path("figures.json").write_text(json.dumps({"epochs": epochs, "best": best, "whole": whole}))


@dataclass(frozen=True)
class Came:
    """What came of one sweep."""

    seconds: float
    epochs: int
    best: float
    whole: int
    """How many runs were carried out to their last epoch."""


def ray_tune() -> Came:
    """Measure Ray Tune, from the start of its process to its end."""
    with scratch() as folder:
        seconds = run(["-m", "scripts.benchmarks.ray_tune", "ray"], folder)
        return Came(seconds, **json.loads((folder / "figures.json").read_text()))


def ours(*options: str) -> Came:
    """Measure a sweep of ours, from the start of its process to its end."""
    with scratch() as folder:
        seconds = run(["-m", "sweeptrail", "sweep", *COMMAND, *LIMITS, *options], folder)
        runs = [_losses(path) for path in folder.glob(f"runs/*/[0-9]*/{journal.FILE_NAME}")]
        best = min(each[-1] for each in runs)
        return Came(seconds, sum(map(len, runs)), best, sum(len(each) == EPOCHS for each in runs))


def _losses(path: Path) -> list[float]:
    """Return what a run has logged, epoch by epoch."""
    return [entry.values["loss"] for entry, _ in journal.read(path) if isinstance(entry, EpochMetrics)]


CONTENDERS: Mapping[str, Callable[[], Came]] = {
    "the whole grid": lambda: ours(),
    "sweeptrail --stop asha": lambda: ours("--stop", "asha", "--eta", str(ETA)),
    "Ray Tune's ASHAScheduler": ray_tune,
}


def rows(rounds: int) -> Iterator[str]:
    """Yield the table, after rounds in turns."""
    found: dict[str, list[Came]] = {name: [] for name in CONTENDERS}
    for number in range(1, rounds + 1):
        for name, contender in CONTENDERS.items():
            found[name].append(contender())
            print(f"{name} {number}: {found[name][-1]}", file=sys.stderr, flush=True)
    yield "| what | seconds | min..max | epochs | whole runs | best loss |"
    yield "|---|---|---|---|---|---|"
    for name, each in found.items():
        seconds, epochs, best, whole = zip(
            *((own.seconds, own.epochs, own.best, own.whole) for own in each), strict=True
        )
        yield (
            f"| {name} | {statistics.median(seconds):.1f} | {min(seconds):.1f}..{max(seconds):.1f} "
            f"| {statistics.median(epochs):.0f} | {statistics.median(whole):.0f} | {statistics.median(best):.4f} |"
        )


if __name__ == "__main__":
    from scripts.benchmarks import ray_tune as itself

    if sys.argv[1:] == ["ray"]:
        itself.with_ray()
    else:
        print(*itself.rows(int(sys.argv[1]) if sys.argv[1:] else 3), sep="\n")
