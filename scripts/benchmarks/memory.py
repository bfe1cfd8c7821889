"""How large the processes of a sweep become."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psutil

from scripts.benchmarks.figures import Bench, Line
from scripts.benchmarks.processes import check, scratch, started

ROWS = {"memory": "peak memory of driver and of each worker"} if sys.platform == "linux" else {}
"""Only Linux says what memory processes share."""

INTERVAL = 0.2
MB = 1e6
TOGETHER = "all processes at a time"
DATA = "data set in all processes"
DATA_PATH = "/memfd:sweeptrail"
"""The file in memory that holds the data set, see sweeptrail.system.shared_arrays."""


class Peaks:
    """The largest memory that each process of a sweep had; what several share counts in equal parts."""

    def __init__(self) -> None:
        self.megabytes: dict[str, float] = {}
        self._workers: dict[int, str] = {}

    def watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Look at the processes until the first of them ends."""
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            for name, size in self._sizes(driver).items():
                self.megabytes[name] = max(size, self.megabytes.get(name, 0))
            time.sleep(INTERVAL)

    def _sizes(self, driver: psutil.Process) -> dict[str, float]:
        sizes = {TOGETHER: 0.0, DATA: 0.0}
        with suppress(psutil.NoSuchProcess):
            for process in [driver, *driver.children(recursive=True)]:
                with suppress(psutil.Error):
                    self._add(process, driver, sizes)
        return sizes

    def _add(self, process: psutil.Process, driver: psutil.Process, sizes: dict[str, float]) -> None:
        maps = process.memory_maps(grouped=True)
        size = sum(part.pss for part in maps) / MB
        sizes[TOGETHER] += size
        sizes[DATA] += sum(part.pss for part in maps if part.path == DATA_PATH) / MB
        if name := self._name(process, driver):
            sizes[name] = size

    def _name(self, process: psutil.Process, driver: psutil.Process) -> str:
        """Return what a process is in the sweep; empty for a program that only looks something up, git for one."""
        if process == driver:
            return "driver"
        if "forkserver_main" not in " ".join(process.cmdline()):  # workers have it too, being forks
            return ""
        if process.ppid() == driver.pid:
            return "fork server, as long as it is alone"
        return self._workers.setdefault(process.pid, f"worker {len(self._workers) + 1}")


def measure(rows: Sequence[str], bench: Bench) -> Iterator[Line]:
    """Watch the default sweep, which takes longer for that."""
    few = ["--train-samples", "2000", "--epochs", "1"] if bench.quick else []
    found: list[dict[str, float]] = []
    for number in range(1, bench.repeats + 1):
        peaks = Peaks()
        with scratch() as folder:
            with started(["-m", "sweeptrail", "sweep", "--data-dir", bench.data_dir, *few], folder) as process:
                peaks.watch(process)
            check(process, folder)
        bench.note("memory", number, **peaks.megabytes)
        found.append(peaks.megabytes)
    for name in found[0]:
        yield Line("memory", f"peak: {name}", tuple(own[name] for own in found if name in own), "MB")
