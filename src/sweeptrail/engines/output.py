"""Where that goes which a job prints: into a file of its run."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sweeptrail.engines import Work
from sweeptrail.outbox.output_log import FILE_NAME
from sweeptrail.records import Job, RunResult
from sweeptrail.system import streams

LIMIT = 10_000_000
"""Bytes that are kept at most."""

BEGINNING = 5_000_000
"""Bytes from the beginning that are kept of what is longer; of the rest the latest are."""

LATEST = 1_000_000

CUT = b"\n[more than 10 MB were printed: what stood here was cut out]\n"

INTERVAL = 0.25
"""Seconds between two looks at the size."""


def keeping_output(work: Work) -> Work:
    """Return the work with what it prints kept in the run's folder, where the run is tracked."""

    def work_aside(job: Job) -> RunResult:
        if not job.sinks:
            return work(job)
        with _kept(Path(job.folder)):
            return work(job)

    return work_aside


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Send what this process and those that it starts print to a file in the folder, after what is there already.

    Straight into the file and not through a pipe: whoever writes into a pipe waits for the one who reads, for ever
    when both are this process and the writer is a library in C that holds Python's lock; and what is in a pipe is
    lost when the process is killed. So what is printed may exceed the limit for a moment, and is then cut.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    # Who appends goes on at the end of the file also after it was cut.
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        with _limited(log), _redirected(log):
            yield
        if not os.fstat(log).st_size:
            path.unlink(missing_ok=True)
    finally:
        os.close(log)


@contextmanager
def _redirected(log: int) -> Iterator[None]:
    """Exchange the descriptors 1 and 2, which all that prints has in common, and give Python fresh streams."""
    streams.flush()
    streams.write_lines_at_once()
    outside = sys.stdout, sys.stderr
    descriptors = {number: os.dup(number) for number in (1, 2)}
    for number in descriptors:
        os.dup2(log, number)
    sys.stdout, sys.stderr = inside = _stream(1), _stream(2)
    try:
        yield
    finally:
        streams.flush(*inside)  # the job may have put others in their place
        sys.stdout, sys.stderr = outside
        for number, descriptor in descriptors.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


def _stream(descriptor: int) -> TextIO:
    """Return a stream that writes each line at once, so that none is lost when the process is killed."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


@contextmanager
def _limited(log: int) -> Iterator[None]:
    """Look after the size of the file while the `with` block lasts."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(INTERVAL):
            _cut(log)

    watcher = threading.Thread(target=watch, name="output", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        _cut(log)


def _cut(log: int) -> None:
    """Keep the beginning and the latest of a file that is too long."""
    size = os.fstat(log).st_size
    if size > LIMIT:
        latest = os.pread(log, LATEST, size - LATEST)
        os.ftruncate(log, BEGINNING)
        os.write(log, CUT + latest[latest.find(b"\n") + 1 :])
