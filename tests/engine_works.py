"""What the tests of the engines have done with a job; workers import this, so it needs no pytest."""

import ctypes
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from sweeptrail.engines import Work
from sweeptrail.errors import Cancelled
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.settings import DATA, RunSettings
from sweeptrail.fashion_mnist.task import TASK
from sweeptrail.records import Job, RunResult
from sweeptrail.system.files import write_whole
from sweeptrail.system.shared_arrays import Array, share
from sweeptrail.tasks.work import Training
from tests.waiting import FOR_EVER, wait_for


def jobs(count: int, folder: Path = Path(), **settings: Any) -> list[Job]:
    chosen = RunSettings(**settings)
    fixed = {name: value for name, value in asdict(chosen).items() if name != "lr"}
    return [
        Job(
            index,
            f"run {index}",
            {"lr": index / 10},
            fixed,
            str(folder),
            epochs=chosen.epochs,
            threads=chosen.threads,
            cost=chosen.cost,
        )
        for index in range(1, count + 1)
    ]


def finished(job: Job, **metrics: float) -> RunResult:
    return RunResult(job.index, job.name, job.params, "FINISHED", metrics=metrics)


def small_data() -> FashionMnist:
    numbers = np.random.default_rng(0)
    images = share(numbers.integers(0, 256, (300, 28, 28), np.uint8))
    labels = share(np.arange(300, dtype=np.uint8) % 10)
    return FashionMnist(images, labels, images[:50], labels[:50], "", "")


def fashion_mnist() -> Training:
    return Training(TASK.code, {DATA: small_data()})


def training_jobs(count: int, folder: Path) -> list[Job]:
    """Return runs that differ in their seeds, tracked as those of a sweep."""
    runs = jobs(count, epochs=2, batch_size=50, validation_samples=100)
    return [
        replace(
            job,
            settings={**job.settings, "seed": job.index},
            folder=str(folder / job.name),
            parent="c0ffee",
            key=str(job.index),
            sinks=("checkpoint", "outbox"),
        )
        for job in runs
    ]


def square(job: Job) -> RunResult:
    return finished(job, square=job.params["lr"] ** 2)


def fail_in_the_second(job: Job) -> RunResult:
    if job.index == 2:
        raise ValueError("lr must be positive")
    return square(job)


def exit_in_the_second(job: Job) -> RunResult:
    if job.index == 2:
        sys.exit("nothing to do")
    return square(job)


def print_something(job: Job) -> RunResult:
    print(f"out of {job.name}")
    print(f"trouble in {job.name}", file=sys.stderr)
    return square(job)


def tracked(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Return the jobs with a folder each and a sink, which says that they are tracked; the work need not build it."""
    return [replace(job, folder=str(folder / job.name), sinks=("outbox",)) for job in jobs]


def print_in_every_way(job: Job) -> RunResult:
    print(f"python {job.index}")
    print(f"trouble {job.index}", file=sys.stderr)
    os.write(1, b"descriptor\n")
    ctypes.CDLL(None).puts(b"library in C")
    subprocess.run(["echo", "program"], check=True)
    sys.stdout = io.StringIO()  # and it stays there
    print("into the void")
    subprocess.run("echo to stderr >&2", shell=True, check=True)
    ctypes.CDLL(None).printf(b"%s", b"without a newline")
    return square(job)


def close_stdout(job: Job) -> RunResult:
    print(f"before {job.index}")
    sys.stdout.close()
    return square(job)


def print_and_die(job: Job) -> RunResult:
    print("last words")
    print("and more", end="", flush=True)
    ctypes.CDLL(None).puts(b"library in C")
    os.kill(os.getpid(), signal.SIGKILL)
    return square(job)


def print_until_it_is_cut(job: Job) -> RunResult:
    print("the beginning")
    with Path(job.folder, "output.log").open("rb", buffering=0) as log:
        for number in count():
            print(f"{number} ".ljust(100_000, "."))
            log.seek(5_000_000)
            if b"cut out" in log.read(100):
                break
    print("the end")
    return finished(job, printed=number * 100_000)


def hang(job: Job, how: Callable[[], object]) -> RunResult:
    """Do the second job in a way that never ends."""
    if job.index == 2:
        print("about to hang")
        how()
    return square(job)


def sleep_for_ever(job: Job) -> RunResult:
    return hang(job, lambda: time.sleep(600))


def spin_for_ever(job: Job) -> RunResult:
    def spin() -> None:
        while True:
            pass

    return hang(job, spin)


def ignore_the_word_to_end(job: Job) -> RunResult:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return sleep_for_ever(job)


def hold_python_s_lock(job: Job) -> RunResult:
    def lock_twice() -> None:
        library = ctypes.PyDLL(None)  # which, unlike CDLL, does not let go of it
        mutex = ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)

    return hang(job, lock_twice)


def catch_everything(job: Job) -> RunResult:
    def never_mind() -> None:
        try:
            time.sleep(600)
        except BaseException as error:
            print(type(error).__name__)

    return hang(job, never_mind)


def stop_deaf(job: Job) -> RunResult:
    def stop() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)

    return hang(job, stop)


def leave_a_thread_behind(job: Job) -> RunResult:
    stop = Path(job.folder, "stop")
    threading.Thread(target=wait_for, args=(stop.exists, FOR_EVER), daemon=job.index % 2 == 0).start()
    return square(job)


def leave_the_folder(job: Job) -> RunResult:
    here = os.getcwd()
    os.chdir(job.folder)
    return RunResult(job.index, here, job.params, "FINISHED")


def hang_after_the_first(job: Job) -> RunResult:
    if job.index > 1:
        write_whole(Path(job.folder, f"began {job.index}"), str(os.getpid()))
        time.sleep(FOR_EVER)
    return square(job)


def hang_deaf(job: Job) -> RunResult:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hang_after_the_first(job)


def clean_up_when_cancelled(job: Job) -> RunResult:
    try:
        return hang_after_the_first(job)
    except Cancelled:
        Path(job.folder, f"cleaned {job.index}").touch()
        raise


def die_in_the_second(job: Job) -> RunResult:
    if job.index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(job)


def die_in_the_second_once(job: Job) -> RunResult:
    marker = Path(job.folder, "died")
    if not marker.exists():
        marker.touch()
        die_in_the_second(job)
    return square(job)


def leave_in_the_second(job: Job) -> RunResult:
    if job.index == 2:
        os._exit(7)
    return square(job)


def tell_the_process(job: Job) -> RunResult:
    time.sleep(0.02)
    return finished(job, worker=os.getpid(), parent=os.getppid())


def answer_with_a_function(job: Job) -> RunResult:
    metrics: dict[str, Any] = {"loss": lambda: 0.5} if job.index == 2 else {"loss": 0.5}
    return finished(job, **metrics)


class Unreadable:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)


def answer_with_something_unreadable(job: Job) -> RunResult:
    metrics: dict[str, Any] = {"loss": Unreadable() if job.index == 2 else 0.5}
    return finished(job, **metrics)


class UnreadableWork:
    def __call__(self, job: Job) -> RunResult:
        return square(job)

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)


@dataclass(frozen=True)
class ReadAll:
    """Work that reads a shared array and then writes to it; tells what it read and what memory that took."""

    images: Array

    def __call__(self, job: Job) -> RunResult:
        images = self.images
        total = float(images.sum())
        memory = mapped_kilobytes()
        images[0] = 255
        return finished(job, total=total, worker=os.getpid(), **memory)


def mapped_kilobytes() -> dict[str, float]:
    """How much of the shared arrays this process has mapped, and its fair share of that when others map it too."""
    mappings = Path("/proc/self/smaps").read_text().split("/memfd:sweeptrail (deleted)\n")[1:]
    lines = [line.split() for mapping in mappings for line in mapping.split("VmFlags")[0].splitlines()]
    return {key: sum(float(line[1]) for line in lines if line[0] == f"{key}:") for key in ("Rss", "Pss")}


@dataclass(frozen=True)
class TellTheObject:
    """Work that tells whether it is the object that did the job before, and has the memory of its data for itself."""

    images: Array

    def __call__(self, job: Job) -> RunResult:
        return finished(job, worker=os.getpid(), object=id(self), writeable=self.images.flags.writeable)


@dataclass(frozen=True)
class HangOnANode:
    """Work that hangs in its second run on the Ray node whose id is in the file `doomed`; the others wait for that."""

    work: Work
    folder: str

    def __call__(self, job: Job) -> RunResult:
        import ray

        folder = Path(self.folder)
        if ray.get_runtime_context().get_node_id() == (folder / "doomed").read_text():
            (folder / f"began {job.index}").touch()
            if len(list(folder.glob("began *"))) == 2:
                (folder / "hangs").touch()
                time.sleep(FOR_EVER)
        elif job.index > 6:
            wait_for((folder / "hangs").exists)
        return self.work(job)
