"""The conformance suite: what every engine promises."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from sweeptrail.engines import Engine, Options, Work
from sweeptrail.engines.carry_out import answers
from sweeptrail.engines.carry_out import results as results_of
from sweeptrail.engines.processes.engine import Processes
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.ray.engine import Ray, connect, import_ray
from sweeptrail.engines.serial import Serial
from sweeptrail.records import Job, RunResult
from tests import engine_works as works
from tests.waiting import PATIENCE, wait_for


@dataclass(frozen=True)
class Candidate:
    make: Callable[[float | None], Engine]
    """Of how long a run may take."""
    isolates: bool = True
    """Runs are in processes of their own: they can be killed, and what they answer has to be pickled."""
    sees_how_workers_die: bool = True
    takes_what_is_stopped_for_dead: bool = False
    """So that a run is tried again whose worker was stopped, and leaves no stack."""
    marks: tuple[pytest.MarkDecorator, ...] = ()


ON_RAY = (pytest.mark.heavy, pytest.mark.xdist_group("ray"))
"""On one cluster, since a second one would take seconds to start."""

ENGINES = {
    "serial": Candidate(lambda _: Serial(), isolates=False),
    "processes": Candidate(lambda timeout: Processes(2, 1, ForkServer(()), run_timeout=timeout)),
    "ray": Candidate(
        lambda timeout: Ray(Options(workers=2, run_timeout=timeout)),
        sees_how_workers_die=False,
        takes_what_is_stopped_for_dead=True,
        marks=ON_RAY,
    ),
}

every_engine = pytest.mark.parametrize("name", [pytest.param(name, marks=ENGINES[name].marks) for name in ENGINES])
every_isolating_engine = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=ENGINES[name].marks) for name in ENGINES if ENGINES[name].isolates]
)


def engine(name: str, run_timeout: float | None = None) -> Engine:
    """Return an engine that is warm: Ray takes seconds to start, so most claims are tried on one cluster."""
    if name == "ray" and not import_ray("local").is_initialized():
        connect("local", num_cpus=2, object_store_memory=200 * 2**20)
    return ENGINES[name].make(run_timeout)


def cold_engine(name: str) -> Engine:
    """Return an engine that has to start all that it needs, and to end it."""
    end_shared_cluster()
    return ENGINES[name].make(None)


def end_shared_cluster() -> None:
    import_ray("local").shutdown()


def run(name: str, work: Work, jobs: Sequence[Job], run_timeout: float | None = None) -> list[RunResult]:
    """Return the results in the order of the jobs."""
    return sorted(results_of(engine(name, run_timeout), work, jobs), key=lambda result: result.index)


def drive(name: str, folder: str) -> None:
    """Carry out two runs that hang, as the driver of a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts with &
    for _ in results_of(ENGINES[name].make(None), works.hang_after_the_first, works.jobs(3, Path(folder))):
        pass


@contextlib.contextmanager
def driver_with_a_hanging_run(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Yield a driver that leads its own process group, and all processes below it."""
    call = f"from tests import test_engines; test_engines.drive({name!r}, {str(folder)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", call], env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as driver:
        try:
            wait_for(lambda: bool(list(folder.glob("began *"))))
            yield driver, psutil.Process(driver.pid).children(recursive=True)
        finally:
            driver.kill()


def is_alive(process: psutil.Process) -> bool:
    # What an orphan leaves in the table of processes is init's to clear, whenever it does.
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@every_engine
def test_every_engine_gives_the_same_results_in_the_order_of_the_grid(name: str) -> None:
    jobs = works.jobs(8)
    assert run(name, works.square, jobs) == [works.square(job) for job in jobs]


@every_engine
def test_two_hundred_tiny_jobs_are_each_answered_once(name: str) -> None:
    assert [result.index for result in run(name, works.square, works.jobs(200))] == list(range(1, 201))


class Adaptive:
    """Jobs each of which is made of the result before it."""

    def __init__(self, count: int) -> None:
        self.waiting = works.jobs(1)
        self.left = count - 1
        self.told: list[RunResult] = []

    def ask(self) -> Job | None:
        return self.waiting.pop() if self.waiting else None

    def tell(self, result: RunResult) -> None:
        self.told.append(result)
        if self.left:
            self.left -= 1
            [job] = works.jobs(1)
            number = result.index + 1
            params = {"lr": result.metrics["square"]}
            self.waiting.append(replace(job, index=number, name=f"run {number}", params=params))


@every_engine
def test_a_job_may_depend_on_the_result_before_it(name: str) -> None:
    source = Adaptive(4)
    found = list(answers(engine(name), works.square, source))
    assert found == source.told
    assert [result.index for result in found] == [1, 2, 3, 4]
    assert [result.metrics["square"] for result in found] == pytest.approx([0.1**2, 0.1**4, 0.1**8, 0.1**16])


@every_engine
def test_no_jobs_give_no_results(name: str) -> None:
    assert run(name, works.square, []) == []


@every_engine
@pytest.mark.parametrize(
    ("work", "reason"),
    [(works.fail_in_the_second, "ValueError: lr must be positive"), (works.exit_in_the_second, "SystemExit: nothing")],
)
def test_a_run_that_raises_fails_alone_and_says_why(name: str, work: Work, reason: str) -> None:
    results = run(name, work, works.jobs(4))
    assert [result.status for result in results] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert results[1].reason.startswith(reason)
    assert work.__name__ in (results[1].error or "")
    assert (results[1].name, results[1].params) == ("run 2", {"lr": 0.2})


@every_engine
def test_what_a_job_prints_arrives(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    run(name, works.print_something, works.jobs(3))
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["out of run 1", "out of run 2", "out of run 3"]
    assert sorted(err.splitlines()) == ["trouble in run 1", "trouble in run 2", "trouble in run 3"]


@every_isolating_engine
def test_what_a_tracked_job_prints_is_in_its_folder_whoever_prints_it(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = run(name, works.print_in_every_way, works.tracked(works.jobs(4), tmp_path))
    assert [result.status for result in results] == ["FINISHED"] * 4
    for index in range(1, 5):
        printed = (tmp_path / f"run {index}" / "output.log").read_text()
        assert printed == (
            f"python {index}\ntrouble {index}\ndescriptor\nlibrary in C\nprogram\nto stderr\nwithout a newline"
        )
    assert capfd.readouterr() == ("", "")


@every_isolating_engine
def test_what_is_not_tracked_is_printed_as_before_by_the_same_worker(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, third, fourth = works.jobs(4)
    with engine(name).open(works.print_something) as crew:
        for job in (first, *works.tracked([second, third], tmp_path), fourth):
            crew.submit(job)
            crew.next_result()
    out, err = capfd.readouterr()
    assert (out, err) == ("out of run 1\nout of run 4\n", "trouble in run 1\ntrouble in run 4\n")
    assert (tmp_path / "run 3" / "output.log").read_text() == "out of run 3\ntrouble in run 3\n"


@every_isolating_engine
def test_a_job_that_closes_its_output_closes_nobody_else_s(name: str, tmp_path: Path) -> None:
    results = run(name, works.close_stdout, works.tracked(works.jobs(4), tmp_path))
    assert [result.status for result in results] == ["FINISHED"] * 4
    assert (tmp_path / "run 4" / "output.log").read_text() == "before 4\n"


@every_isolating_engine
def test_a_worker_that_is_killed_loses_no_line_and_the_next_attempt_appends(name: str, tmp_path: Path) -> None:
    [result] = run(name, works.print_and_die, works.tracked(works.jobs(1), tmp_path))
    assert result.status == "FAILED"
    printed = (tmp_path / "run 1" / "output.log").read_text()
    assert printed == "last words\nand morelibrary in C\n" * 2


@pytest.mark.slow
@every_isolating_engine
def test_a_job_that_prints_without_end_fills_no_disk(name: str, tmp_path: Path) -> None:
    [result] = run(name, works.print_until_it_is_cut, works.tracked(works.jobs(1), tmp_path))
    printed = (tmp_path / "run 1" / "output.log").read_bytes()
    assert result.metrics["printed"] > 10_000_000 >= len(printed)
    assert printed.startswith(b"the beginning\n0 ...")
    assert printed.endswith(b"the end\n")
    assert printed.count(b"[more than 10 MB were printed: what stood here was cut out]") == 1


@every_isolating_engine
def test_a_job_that_prints_nothing_leaves_no_empty_file(name: str, tmp_path: Path) -> None:
    run(name, works.square, works.tracked(works.jobs(2), tmp_path))
    assert not list(tmp_path.rglob("output.log"))


def test_the_engine_of_this_process_leaves_the_output_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run("serial", works.print_something, works.tracked(works.jobs(1), tmp_path))
    assert capfd.readouterr() == ("out of run 1\n", "trouble in run 1\n")
    assert not list(tmp_path.rglob("output.log"))


@pytest.mark.slow
@every_isolating_engine
@pytest.mark.parametrize(
    "work",
    [
        works.sleep_for_ever,
        works.spin_for_ever,
        works.ignore_the_word_to_end,
        works.hold_python_s_lock,
        works.catch_everything,
        works.stop_deaf,
    ],
    ids=lambda work: work.__name__,
)
def test_a_run_that_takes_too_long_fails_alone_with_its_stack(name: str, work: Work, tmp_path: Path) -> None:
    results = run(name, work, works.tracked(works.jobs(4), tmp_path), run_timeout=1.5)
    assert [result.status for result in results] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert results[1].reason == "the run took longer than run_timeout=1.5 s"
    if work is not works.stop_deaf or not ENGINES[name].takes_what_is_stopped_for_dead:
        stack = (tmp_path / "run 2" / "stack.txt").read_text()
        assert f"in {work.__name__}" in stack
        assert "Thread 0x" in stack
        assert (tmp_path / "run 2" / "output.log").read_text().splitlines().count("about to hang") == 1
    assert [path.parent.name for path in tmp_path.glob("*/stack.txt")] == ["run 2"]


@every_engine
def test_threads_that_jobs_leave_behind_do_not_hold_up_the_engine(name: str, tmp_path: Path) -> None:
    try:
        results = run(name, works.leave_a_thread_behind, works.jobs(4, tmp_path))
    finally:
        (tmp_path / "stop").touch()
    assert [result.status for result in results] == ["FINISHED"] * 4  # and nobody has told the threads to end


@every_engine
def test_a_job_that_leaves_its_folder_does_not_take_the_next_one_along(name: str, tmp_path: Path) -> None:
    results = run(name, works.leave_the_folder, works.jobs(4, tmp_path))
    assert {result.name for result in results} == {os.getcwd()}


@every_isolating_engine
def test_the_run_of_a_worker_that_died_is_tried_again(name: str, tmp_path: Path) -> None:
    results = run(name, works.die_in_the_second_once, works.jobs(4, tmp_path))
    assert [result.status for result in results] == ["FINISHED"] * 4
    assert (tmp_path / "died").exists()


@every_isolating_engine
@pytest.mark.parametrize(("work", "how"), [(works.die_in_the_second, "SIGKILL"), (works.leave_in_the_second, "code 7")])
def test_a_run_whose_workers_die_each_time_fails_alone_and_says_how(name: str, work: Work, how: str) -> None:
    results = run(name, work, works.jobs(4))
    assert [result.status for result in results] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert "tried 2 times" in results[1].reason
    assert how in results[1].reason or not ENGINES[name].sees_how_workers_die


@pytest.mark.slow
@every_isolating_engine
def test_a_worker_killed_in_the_middle_of_24_runs_costs_none_of_them(name: str) -> None:
    results = []
    for result in results_of(engine(name), works.tell_the_process, works.jobs(24)):
        results.append(result)
        if len(results) == 6:
            os.kill(int(result.metrics["worker"]), signal.SIGKILL)
    assert sorted(result.index for result in results) == list(range(1, 25))
    assert {result.status for result in results} == {"FINISHED"}


@every_isolating_engine
@pytest.mark.parametrize("work", [works.answer_with_a_function, works.answer_with_something_unreadable])
def test_a_result_that_cannot_be_sent_is_a_failed_run(name: str, work: Work) -> None:
    results = run(name, work, works.jobs(3))
    assert [result.status for result in results] == ["FINISHED", "FAILED", "FINISHED"]
    assert "the result cannot be" in (results[1].error or "")


@every_isolating_engine
@pytest.mark.parametrize("tag", [lambda: "a function", works.Unreadable()], ids=["unpicklable", "unreadable"])
def test_a_job_that_cannot_be_sent_is_a_failed_run(name: str, tag: object) -> None:
    jobs = works.jobs(3)
    jobs[1] = replace(jobs[1], tags={"tag": tag})  # type: ignore[dict-item]  # wrong on purpose
    results = run(name, works.square, jobs)
    assert [result.status for result in results] == ["FINISHED", "FAILED", "FINISHED"]
    assert "the job cannot be" in (results[1].error or "")


@every_engine
def test_a_job_may_be_submitted_when_others_have_ended(name: str) -> None:
    first, second, third = works.jobs(3)
    with engine(name).open(works.square) as crew:
        assert crew.has_room
        crew.submit(first)
        assert (len(crew), crew.next_result().index, len(crew)) == (1, 1, 0)
        assert crew.has_room
        crew.submit(second)
        crew.submit(third)
        assert {crew.next_result().index, crew.next_result().index} == {2, 3}


@every_engine
def test_the_next_job_is_handed_out_before_a_result_is_shown(name: str) -> None:
    asked: list[int] = []

    def jobs() -> Iterator[Job]:
        for job in works.jobs(6):
            asked.append(job.index)
            yield job

    shown = 0
    for _ in results_of(engine(name), works.square, jobs()):
        shown += 1
        assert len(asked) == 6 or len(asked) > shown
    assert shown == 6


@every_engine
def test_no_more_jobs_are_asked_for_than_there_is_room_for(name: str) -> None:
    with engine(name).open(works.square) as crew:
        for job in works.jobs(10):
            if not crew.has_room:
                break
            crew.submit(job)
        assert 1 <= len(crew) <= 2
        while crew:
            crew.next_result()


@every_engine
def test_without_a_job_nothing_is_started(name: str) -> None:
    engine = cold_engine(name)
    before = children()
    assert list(results_of(engine, works.square, [])) == []
    assert children() == before


@every_engine
def test_an_engine_can_be_opened_again(name: str) -> None:
    again = engine(name)
    for _ in range(2):
        with again.open(works.square) as crew:
            crew.submit(works.jobs(1)[0])
            assert crew.next_result().status == "FINISHED"


@every_engine
def test_closing_the_results_ends_every_process(name: str, tmp_path: Path) -> None:
    engine = cold_engine(name)
    before = children()
    results = results_of(engine, works.hang_after_the_first, works.jobs(6, tmp_path))
    assert next(results).index == 1
    results.close()
    assert children() <= before
    assert not list(tmp_path.glob("began [56]"))


@pytest.mark.slow
@every_engine
def test_an_interrupt_ends_every_process_and_only_the_driver_speaks(name: str, tmp_path: Path) -> None:
    with driver_with_a_hanging_run(name, tmp_path) as (driver, processes):
        os.killpg(driver.pid, signal.SIGINT)
        errors = driver.communicate(timeout=PATIENCE)[1]
        assert driver.returncode == -signal.SIGINT
        assert errors.count("Traceback (most recent call last)") == 1
        assert not [process for process in processes if is_alive(process)]


@pytest.mark.slow
@every_engine
def test_no_process_outlives_a_driver_that_was_killed(name: str, tmp_path: Path) -> None:
    with driver_with_a_hanging_run(name, tmp_path) as (driver, processes):
        driver.kill()
        wait_for(lambda: not any(is_alive(process) for process in processes))
