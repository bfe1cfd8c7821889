"""What a sweep leaves at its end: the last leaderboard, the report, the champion as a registered model."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sweeptrail.engines.carry_out import results
from sweeptrail.engines.processes.engine import Processes
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import SweeptrailError
from sweeptrail.outbox.entries import Version
from sweeptrail.outbox.parent_journal import ParentJournal
from sweeptrail.outbox.run_journal import ARTIFACTS, add_model, has_model
from sweeptrail.records import Job, RunResult
from sweeptrail.results import report
from sweeptrail.results.leaderboard import Leaderboard, final_metrics
from sweeptrail.results.report import section
from sweeptrail.sweeps.plan import Plan
from sweeptrail.tracking import tags
from sweeptrail.training.export import FOLDER


@dataclass(frozen=True)
class Conclusion:
    """What there is to conclude, and who is told."""

    plan: Plan
    board: Leaderboard
    jobs: Mapping[int, Job]
    parent: ParentJournal
    say: Callable[[str], None]

    def draw_and_register(self) -> None:
        """Draw the report and have the champion registered.

        The runs have ended well by now: what goes wrong here is said, and costs the sweep nothing else.
        """
        settings = self.plan.settings
        if not self.board.champion:
            return
        with closing(ForkServer(settings.task.preload_export)) as server:
            try:
                if settings.model_name and settings.task.preload_export:
                    server.start()  # imports while the report is drawn
                if settings["report"]:
                    self._draw(self.jobs[self.board.champion.result.index])
                if settings.model_name:
                    self._register(server, self.board.champion.result.index)
            except SweeptrailError as error:
                self.say(str(error))
            except Exception as error:  # whatever numbers make a library for plots raise
                self.say(f"the sweep is finished, but not its report and its model ({type(error).__name__}: {error})")

    def _draw(self, champion: Job) -> None:
        """Write report.html and the plots."""
        folder = self.parent.folder
        sections = self.plan.settings.task.sections(self.plan.data.shared, Path(champion.folder))
        section.save(sections, folder)
        written = report.write(folder, self.board, title=folder.name, sections=sections)
        self.parent.add_files(*(file.relative_to(folder).as_posix() for file in written))

    def _register(self, server: ForkServer, champion: int) -> None:
        """Have the champion become a version of the registered model; export the others, if they are wanted as well."""
        finished = [run.result.index for row in self.board.rows for run in row.runs]
        wanted = finished if self.plan.settings["log_models"] == "all" else [champion]
        todo = [
            replace(self.jobs[index], sinks=())  # what an export prints is no output of the run, which is over
            for index in wanted
            if not has_model(Path(self.jobs[index].folder), FOLDER, as_version=index == champion)
        ]
        with closing(self._exported(server, todo)) as exported:
            for result in exported:
                job = self.jobs[result.index]
                if result.status == "FINISHED":
                    version = self._version(job) if result.index == champion else None
                    add_model(Path(job.folder), FOLDER, version)
                else:
                    reason = result.reason.removeprefix("sweeptrail.errors.SweeptrailError: ")
                    self.say(f"{result.name}: no model of it ({reason})")

    def _exported(self, server: ForkServer, jobs: list[Job]) -> Generator[RunResult, None, None]:
        """Yield a result for each of the jobs whose run has a model now, or should have one."""
        work = self.plan.settings.task.exporter(self.plan.data.shared)
        if work:
            yield from results(Processes(1, 0, server), work, jobs)
            return
        for job in jobs:  # a run that has logged a model of its own, or had MLflow log one
            if any(Path(job.folder, each, "MLmodel").exists() for each in (FOLDER, f"{ARTIFACTS}/{FOLDER}")):
                yield RunResult(job.index, job.name, job.params, "FINISHED")

    def _version(self, job: Job) -> Version:
        """Return what makes the champion's files a version of the registered model."""
        goal = self.board.goal
        values = {run.result.index: final_metrics(run)[goal.metric] for run in self.board.rows[0].runs}
        return Version(
            name=self.plan.settings.model_name or "",
            metric=goal.metric,
            value=values[job.index],
            data=self.plan.settings.task.chosen_on(job, goal.metric),
            parent=job.parent,
            tags={tags.SWEEP: self.parent.folder.name, tags.RUN: job.name, tags.KEY: job.key},
            greater_is_better=goal.greater_is_better,
        )
