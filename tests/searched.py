"""A task that takes milliseconds, for searches; and what their folders and MLflow have of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Decided, EpochMetrics

MODULE = """
import json
import os

class Sum:
    value = 0.0
    def state_dict(self): return {"value": self.value}
    def load_state_dict(self, state): self.value = state["value"]

def curve(manager, *, x: float = 0.5, y: float = 0.5, epochs: int = 9):
    reached = Sum()
    for epoch in manager.epochs(epochs, reached=reached):
        with open(os.environ.get("TRACE", os.devnull), "a") as trace:
            trace.write(json.dumps([x, y, epoch]) + "\\n")
        reached.value += 1 / epoch**2
        manager.log(validation_loss=(x - 0.3) ** 2 + (y - 0.7) ** 2 - reached.value)
    manager.log(test_loss=(x - 0.3) ** 2 + (y - 0.7) ** 2)

def valley(manager, *, x: float = 0.5, y: float = 0.5, seed: int = 0):
    manager.log(loss=(x - 0.3) ** 2 + (y - 0.7) ** 2 + seed)

def at_the_end(manager, *, x: float = 0.5, epochs: int = 3):
    for epoch in manager.epochs(epochs, reached=Sum()):
        manager.log(training_loss=x)
    manager.log(score=x)

def failing(manager, *, x: float = 0.5):
    if x > 0.6:
        raise ValueError("too large")
    manager.log(loss=x)

def valid(x=0.5, y=0.5, **others):
    return x + y < 1.6
"""


def decisions(folder: Path) -> list[Decided]:
    """Return what the sweep in a folder has decided, in its order."""
    return [entry for entry, _ in journal.read(folder / journal.FILE_NAME) if isinstance(entry, Decided)]


def epochs(folder: Path) -> dict[str, list[int]]:
    """Return the epochs that the journal of each run has, by the run's name, in their order."""
    found = {}
    for path in folder.glob(f"[0-9]*/{journal.FILE_NAME}"):
        found[path.parent.name] = [entry.step for entry, _ in journal.read(path) if isinstance(entry, EpochMetrics)]
    return found


def chosen(folder: Path) -> list[tuple[int, Mapping[str, Any], int | None]]:
    """Return the decisions without their times and the keys of their runs."""
    return [(each.trial, each.params, each.epochs) for each in decisions(folder)]
