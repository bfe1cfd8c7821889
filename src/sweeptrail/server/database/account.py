"""The account that runs PostgreSQL where we are root, as which it refuses to run."""

import fcntl
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sweeptrail.errors import ServerError

ACCOUNT = "sweeptrail-database"


def own_account() -> str | None:
    """Return whose PostgreSQL is to be: None for our own, or an account that is made when we are root."""
    if os.geteuid() != 0:
        return None
    if not _exists():
        with _no_other_start():
            if not _exists():
                _make()
    return ACCOUNT


def _exists() -> bool:
    try:
        pwd.getpwnam(ACCOUNT)
        grp.getgrnam(ACCOUNT)  # useradd writes it after the account
    except KeyError:
        return False
    return True


@contextmanager
def _no_other_start() -> Iterator[None]:
    """Let one first start after the other make the account.

    Of two useradd at once, the later one gives the account that it finds another number: it loses its files.
    """
    accounts = os.open("/etc", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(accounts, fcntl.LOCK_EX)
        yield
    finally:
        os.close(accounts)


def _make() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell=/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise ServerError(
            f"PostgreSQL does not run as root, and its account {ACCOUNT} could not be made "
            f"({reason}); start the server as another user"
        ) from error
