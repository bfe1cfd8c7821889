"""The account that runs PostgreSQL where a server is started as root."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.commands import environment
from tests.server import process_group
from tests.waiting import PATIENCE

START = """
import grp, os, pwd, sys
from pathlib import Path
from sweeptrail.server.database.account import own_account

def look(name):
    is_there = Path("made").exists()
    Path(f"looked-{sys.argv[1]}").touch()
    if not is_there:
        raise KeyError(name)

os.geteuid = lambda: 0
pwd.getpwnam = grp.getgrnam = look
print(own_account())
"""

USERADD = """#!/bin/sh
while ! test -e looked-1 -a -e looked-2; do sleep 0.02; done
echo "$@" >>made
"""
"""Makes the account when both starts have found that there is none."""


def test_two_first_starts_at_once_make_the_account_once(tmp_path: Path) -> None:
    """The second useradd would give the account another number, and PostgreSQL's folder would not be its own."""
    (tmp_path / "useradd").write_text(USERADD)
    (tmp_path / "useradd").chmod(0o755)
    env = environment(PATH=f"{tmp_path}:/usr/bin:/bin")
    with ExitStack() as starts:
        both = [
            starts.enter_context(process_group(sys.executable, "-c", START, number, cwd=tmp_path, env=env))
            for number in "12"
        ]
        for process in both:
            output, errors = process.communicate(timeout=PATIENCE)
            assert (process.returncode, output) == (0, "sweeptrail-database\n"), errors
    assert len((tmp_path / "made").read_text().splitlines()) == 1


def test_an_account_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "useradd").write_text("#!/bin/sh\necho 'useradd: no space left' >&2\nexit 1\n")
    (tmp_path / "useradd").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", START, "1"],
        cwd=tmp_path,
        env=environment(PATH=f"{tmp_path}:/usr/bin:/bin"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("(useradd: no space left); start the server as another user")
