"""Which runs are worth more epochs: asynchronous successive halving (ASHA, Li et al. 2020, algorithm 2)."""

import math
from dataclasses import dataclass, field

Rank = tuple[bool, float]
"""What sorts values, the best first: whether it is nan, and the value, the smaller the better."""


@dataclass(frozen=True)
class Rungs:
    """After how many epochs runs pause, and what share of them goes on."""

    min_epochs: int
    epochs: int
    """Of a run that is never stopped."""
    eta: int
    """One of so many goes on."""

    @property
    def levels(self) -> list[int]:
        """The epochs after which a run pauses, and those of a whole run: 1, 3, 9."""
        found = [self.min_epochs]
        while found[-1] * self.eta < self.epochs:
            found.append(found[-1] * self.eta)
        return [*found, self.epochs]

    def after(self, epochs: int) -> int:
        """Return the first level beyond so many epochs."""
        return next((level for level in self.levels if level > epochs), self.epochs)

    def at_most(self, epochs: int) -> int:
        """Return the last level that is reached with so many epochs, or else the first."""
        return next((level for level in reversed(self.levels) if level <= epochs), self.levels[0])


@dataclass
class Ladder:
    """How far each trial has got, and how far it was sent; trials are known by their numbers."""

    rungs: Rungs
    sent: dict[int, int] = field(default_factory=dict)
    """To which level each trial was sent last."""
    _ranks: dict[int, dict[int, Rank]] = field(default_factory=dict)
    """Of each level those that have reached it."""

    def send(self, trial: int, level: int | None = None) -> int:
        """Note that a trial is sent to a level, by default to the next, and return that."""
        self.sent[trial] = level or self.rungs.after(self.sent.get(trial, 0))
        return self.sent[trial]

    def reach(self, trial: int, level: int, rank: Rank) -> None:
        """Note what a trial was worth at a level that it has reached."""
        self._ranks.setdefault(level, {})[trial] = rank

    def reached(self, trial: int) -> dict[int, float]:
        """Return what a trial was worth at each level that it has reached."""
        found = {level: ranks[trial] for level, ranks in sorted(self._ranks.items()) if trial in ranks}
        return {level: math.nan if is_nan else value for level, (is_nan, value) in found.items()}

    def order(self, level: int) -> list[int]:
        """Return those that have reached a level, the best first."""
        ranks = self._ranks.get(level, {})
        return sorted(ranks, key=lambda trial: (ranks[trial], trial))

    def next(self) -> int | None:
        """Return the trial that is worth more epochs now, one that is nearer to the end before others."""
        for level in reversed(self.rungs.levels[:-1]):
            order = self.order(level)
            for trial in order[: len(order) // self.rungs.eta]:
                if self.sent[trial] == level and not self._is_nan(trial, level):
                    return trial
        return None

    def last(self) -> int | None:
        """Return the best of those that got furthest, if none has got to the end.

        For when nothing else is to be done: of a few trials none may be among the best of `eta`, and one at
        least is to be whole.
        """
        for level in reversed(self.rungs.levels):
            waiting = [trial for trial in self.order(level) if self.sent[trial] <= level]
            if waiting and not self._is_nan(waiting[0], level):
                return waiting[0] if level < self.rungs.epochs else None
        return None

    def _is_nan(self, trial: int, level: int) -> bool:
        return self._ranks[level][trial][0]
