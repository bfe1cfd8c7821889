"""A script that is killed as soon as a journal holds so many of its measurements: `killed_client.py SCRIPT NUMBER`."""

import itertools
import os
import runpy
import signal
import sys

from sweeptrail.outbox.entries import Entry, Metrics
from sweeptrail.outbox.machine.shared_journal import SharedJournal

append = SharedJournal.append
written = itertools.count(1)


def append_and_die(self: SharedJournal, *entries: Entry) -> None:
    append(self, *entries)
    for _ in filter(lambda entry: isinstance(entry, Metrics), entries):
        if next(written) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    script, number = sys.argv[1:]
    sys.argv[1:] = []
    SharedJournal.append = append_and_die  # type: ignore[method-assign]
    runpy.run_path(script, run_name="__main__")
