"""Decides which run is carried out next, and how far; whatever is decided is kept before it begins."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sweeptrail.engines.carry_out import longest_first
from sweeptrail.outbox.history import History
from sweeptrail.outbox.parent_journal import ParentJournal
from sweeptrail.outbox.run_journal import close_stopped
from sweeptrail.records import Job, RunResult
from sweeptrail.results.words import plural
from sweeptrail.search.problems import TPE
from sweeptrail.search.rungs import Ladder
from sweeptrail.search.strategy import Point, Trial
from sweeptrail.sweeps.plan import Plan
from sweeptrail.sweeps.trials.budget import Budget, spent
from sweeptrail.sweeps.trials.jobs import Jobs, history_of, is_done, result_of, sent_to
from sweeptrail.sweeps.trials.worth import Worth


@dataclass
class Combination:
    """A trial with its runs, one for each seed; in a grid each run is one."""

    number: int
    params: Point
    jobs: Sequence[Job]
    results: dict[int, RunResult] = field(default_factory=dict)
    """The last of each run that has one, by the run's number."""
    known: Trial | None = None
    """What a search is told of it, until it has another result."""


class Trials:
    """The runs of a sweep: all of a grid, or those that a search has chosen up to now."""

    def __init__(self, plan: Plan, jobs: Jobs, parent: ParentJournal) -> None:
        """Recall what was decided in earlier sittings, and what came of it."""
        self._settings = plan.settings
        self._is_tracked = plan.tracked
        self._jobs = jobs
        self._parent = parent
        self._strategy = plan.settings.strategy()
        self._ladder = Ladder(rungs) if (rungs := plan.settings.rungs()) else None
        self._combinations: dict[int, Combination] = {}
        self._by_run: dict[int, Combination] = {}
        self._open: list[Job] = []
        """What was begun, or decided upon, and is not over."""
        self._new: deque[Job] = deque()
        """What is left of a grid."""
        self._running: set[int] = set()
        self._worth = Worth(plan.settings.goal)
        self._is_exhausted = False
        self.recalled: list[tuple[int, int, RunResult | None]] = []
        """Of each run of earlier sittings its number, how many epochs it has, and its result if it has finished."""
        self.follow: Callable[[Job], None] = lambda job: None
        """Told of each job that is handed out."""
        self._budget = Budget(plan.settings["budget"], self._recall())

    @property
    def jobs(self) -> list[Job]:
        """Those of all runs up to now, in the order of their numbers."""
        return sorted((job for each in self._combinations.values() for job in each.jobs), key=lambda job: job.index)

    def job(self, index: int) -> Job:
        """Return the job of the run with this number."""
        return next(job for job in self._by_run[index].jobs if job.index == index)

    @property
    def size(self) -> int | None:
        """How many runs there will be at most; None where only time ends the search."""
        if not self._strategy:
            return len(self._by_run)
        trials: int | None = self._settings["trials"]
        if not trials:
            return None
        space = self._settings.space.size
        return max(trials if space is None else min(trials, space), len(self._combinations)) * len(self._settings.seeds)

    @property
    def results(self) -> dict[int, RunResult]:
        """What is known of the runs that have ended or paused, by their numbers."""
        return {index: each.results[index] for index, each in self._by_run.items() if index in each.results}

    def ask(self) -> Job | None:
        """Return the job that is to be carried out next; None while there is none."""
        if job := self._next():
            self._running.add(job.index)
            self.follow(job)
        return job

    def tell(self, result: RunResult) -> None:
        """Take note of how a job has ended; raises UsageError if the goal is not among what it has logged."""
        self._running.discard(result.index)
        combination = self._by_run[result.index]
        combination.results[result.index] = result
        combination.known = None
        self._note(combination, result)
        if self._settings["search"] == TPE:
            self._worth.expect(result)

    def stop(self) -> Iterator[RunResult]:
        """End as FINISHED what has paused and is not taken further; yield those results."""
        for each in self._combinations.values() if self._ladder else ():
            for job in each.jobs:
                result = each.results.get(job.index)
                if not result or not (words := self._stopped_early(each, result)) or words == result.stopped_early:
                    continue
                each.results[job.index] = replace(result, status="FINISHED", error=None, stopped_early=words)
                if self._is_tracked:
                    close_stopped(job, each.results[job.index])
                yield each.results[job.index]

    def remark(self) -> str:
        """Return why fewer runs were carried out than were asked for; empty if all were."""
        limit = self._settings["trials"] or math.inf
        is_left = self._strategy and not self._is_exhausted and len(self._combinations) < limit
        if self._budget.is_spent and (self._new or is_left):
            of = f" of {self.size}" if self.size else ""
            return f"the budget is spent after {len(self.results)}{of} runs; resume with a larger one to go on"
        if self._is_exhausted:
            return f"there are no more combinations: all {len(self._combinations)} were tried"
        return ""

    def _next(self) -> Job | None:
        if self._open:
            return self._open.pop(0)
        if self._budget.is_spent:
            return None
        if self._ladder and (number := self._ladder.next()) is not None:
            return self._send(number)
        if self._new:
            return self._begin(self._new.popleft())
        if job := self._choose():
            return job
        if self._ladder and not self._running and (number := self._ladder.last()) is not None:
            return self._send(number)
        return None

    def _send(self, number: int) -> Job:
        """Send a trial further."""
        assert self._ladder
        level = self._ladder.send(number)
        self._parent.decide(number, epochs=level)
        (job,) = self._combinations[number].jobs
        return sent_to(job, level)

    def _begin(self, job: Job) -> Job:
        """Begin a run of a grid."""
        if not self._ladder:
            return job
        level = self._ladder.send(job.index)
        self._parent.decide(job.index, runs={job.index: job.key}, epochs=level)
        return sent_to(job, level)

    def _choose(self) -> Job | None:
        """Begin another trial of a search."""
        limit = self._settings["trials"]
        number = max(self._combinations, default=0) + 1
        if not self._strategy or self._is_exhausted or (limit and number > limit):
            return None
        point = self._strategy.suggest(number, self._known())
        if point is None:
            self._is_exhausted = True
            return None
        each = self._add(number, point)
        level = self._ladder.send(number) if self._ladder else None
        keys = {job.index: job.key for job in each.jobs}
        self._parent.decide(number, runs=keys, params=self._settings.point_texts(point), epochs=level)
        first, *self._open = [sent_to(job, level) for job in each.jobs]
        return first

    def _add(self, number: int, point: Point) -> Combination:
        combinations = [(self._settings.params_of(point, seed), self._settings.fixed) for seed in self._settings.seeds]
        return self._keep(Combination(number, point, [self._jobs.make(*each, trial=number) for each in combinations]))

    def _keep(self, combination: Combination) -> Combination:
        self._combinations[combination.number] = combination
        self._by_run.update((job.index, combination) for job in combination.jobs)
        return combination

    def _recall(self) -> float:
        """Take up what there is from earlier sittings; return how many seconds those took."""
        decisions = self._parent.decisions()
        sent = {each.trial: each.epochs for each in decisions}
        if self._strategy:
            for each in decisions:
                if each.runs:
                    self._add(each.trial, self._settings.read_point(each.params))
        else:
            made = [self._jobs.make(params, fixed) for params, fixed in self._settings.grid()]
            for job in longest_first(made):
                self._keep(Combination(job.index, job.params, [job]))
        moments = [each.time / 1000 for each in decisions]
        for combination in self._combinations.values():
            for job in combination.jobs:
                history = history_of(job)
                self._place(combination, job, history, sent)
                known = combination.results.get(job.index)
                is_over = known and known.status == "FINISHED"
                self.recalled.append((job.index, len(history.epochs), known if is_over else None))
                ended = [history.time] if history.status in ("FINISHED", "FAILED", "PAUSED") else []
                moments += [*(epoch.time for epoch in history.epochs), *ended]
        return spent(self._parent.begun(), moments)

    def _place(self, combination: Combination, job: Job, history: History, sent: dict[int, int | None]) -> None:
        """Take up one run where it is."""
        number, result = combination.number, result_of(job, history)
        if result and result.status == "FINISHED":
            combination.results[job.index] = result
        if not self._ladder:
            if not is_done(job, history):
                is_old = history.has_begun or self._strategy
                (self._open if is_old else self._new).append(job)
            return
        if not history.has_begun and number not in sent:
            self._new.append(job)
            return
        epochs = len(history.epochs)
        rungs, known = self._ladder.rungs, sent.get(number)
        level = self._ladder.send(number, known if known in rungs.levels else rungs.at_most(epochs))
        if result and is_done(job, history) and not result.stopped_early:
            self._note(combination, result)
        elif level <= epochs and level < rungs.epochs and history.status != "FAILED":
            # One that is FINISHED was stopped early, or whole when fewer epochs were asked for.
            paused = RunResult(job.index, job.name, job.params, "PAUSED", history.epochs, time=history.time)
            combination.results.setdefault(job.index, paused)
            self._note(combination, paused)
        else:
            self._open.append(sent_to(job, level))

    def _note(self, combination: Combination, result: RunResult) -> None:
        """Note on the ladder how good a run was at each level."""
        if not self._ladder or result.status not in ("FINISHED", "PAUSED"):
            return
        rungs, count = self._ladder.rungs, len(result.epochs)
        levels = {level: result.epochs[level - 1].metrics for level in rungs.levels[:-1] if level <= count}
        if result.status == "FINISHED":  # also one whose loop was left by `break`, wherever it was sent
            levels[self._ladder.send(combination.number, rungs.epochs)] = result.finals
        for level, metrics in levels.items():
            self._ladder.reach(combination.number, level, self._worth.at(level, metrics, result.name))

    def _known(self) -> list[Trial]:
        """Return what is known of all trials; nothing is made anew for each question but what is new."""
        for each in self._combinations.values():
            each.known = each.known or self._trial(each)
        return [each.known for each in self._combinations.values() if each.known]

    def _trial(self, combination: Combination) -> Trial:
        """Return what is known of a trial, the smaller the better."""
        if self._settings["search"] != TPE:
            return Trial(combination.number, combination.params)
        results = list(combination.results.values())
        reached = self._ladder.reached(combination.number) if self._ladder else {}
        has_failed = any(result.status not in ("FINISHED", "PAUSED") for result in results)
        is_whole = all(result.status == "FINISHED" and not result.stopped_early for result in results)
        value = None
        if not has_failed and is_whole and len(results) == len(combination.jobs):
            value = self._worth.mean(results)
        return Trial(combination.number, combination.params, value, has_failed, reached)

    def _stopped_early(self, combination: Combination, result: RunResult) -> str:
        """Return why a run is not taken further; empty for one that is whole, or has failed."""
        assert self._ladder
        level = self._ladder.sent.get(combination.number, 0)
        order = self._ladder.order(level)
        if combination.number not in order or level >= self._ladder.rungs.epochs:
            return ""
        place = order.index(combination.number) + 1
        return f"after {plural('epoch', level)}, place {place} of {len(order)}"
