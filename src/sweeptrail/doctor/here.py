"""What this machine has: the data, room on the disk, and what waits for a tracking server."""

import errno
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweeptrail.doctor.findings import Finding
from sweeptrail.errors import DataError, SweeptrailError
from sweeptrail.tasks.task import DEFAULT_TASK, find_task

ROOM = 10**9
"""Bytes that should be free."""

PROBE = bytes(1 << 20)
"""What is written to see that a disk takes it: a disk that is full still makes empty files."""


def look_at_data(data_dir: str) -> Iterator[Finding]:
    """Say whether the data are here and whole."""
    task = find_task(DEFAULT_TASK)
    try:
        here = task.data_here(data_dir)
    except DataError as error:
        *problems, todo = error.problems
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        yield Finding("problem", "data", f"{problems[0]}{more}", todo)
        return
    if here:
        yield Finding("ok", "data", here)
    else:
        yield Finding("warning", "data", *task.missing_data)


def look_at_disk(runs_dir: Path) -> Iterator[Finding]:
    """Say whether the folder of the sweeps, or the one that it will be made in, takes files."""
    folder = runs_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(PROBE)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = "remove what is not needed, old sweeps say" if is_full else "give --runs-dir a folder of yours"
        yield Finding("problem", "disk", f"{there} cannot be written: {error.strerror}", todo)
        return
    yield room(folder, shutil.disk_usage(there).free)


def room(folder: Path, free: int) -> Finding:
    """Say whether so many free bytes are enough."""
    found = f"{free / 1e9:.1f} GB free for {folder}"
    if free < ROOM:
        return Finding("warning", "disk", found, "remove what is not needed, or give --runs-dir another disk")
    return Finding("ok", "disk", found)


def look_at_records(runs_dir: Path) -> Iterator[Finding]:
    """Say what waits for a tracking server in the folders of sweeps that no process carries out."""
    from sweeptrail.outbox import sweep_folder
    from sweeptrail.sweeps import maintenance

    waiting = []
    for folder in sweep_folder.sweep_folders(runs_dir):
        try:
            found = maintenance.condition(folder)
        except (SweeptrailError, OSError) as error:
            yield Finding("problem", "records", str(error), f"restore the file, or move {folder} away")
            continue
        if found.waiting and found.status != "RUNNING":
            waiting.append(found.waiting)
    if waiting:
        said = f"{sum(waiting)} of {len(waiting)} sweep{'s' * (len(waiting) > 1)} wait for their tracking server"
        yield Finding("warning", "records", said, f"sweeptrail sync {shlex.quote(str(runs_dir))}")
    else:
        yield Finding("ok", "records", f"none wait in {runs_dir}")
