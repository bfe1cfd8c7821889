"""The process that delivers the outbox of this machine: `python -m sweeptrail.outbox.machine.courier_process FOLDER`.

It is started by whoever writes, outlives it, and ends when there is nothing left to wait for.
"""

import os
import sys
import time
from pathlib import Path

from sweeptrail.errors import SweeptrailError
from sweeptrail.outbox.machine.delivering import Deliverer
from sweeptrail.outbox.machine.launch import URI
from sweeptrail.outbox.machine.place import LOCK, LOG, WAKE, Place
from sweeptrail.outbox.machine.writers import writers
from sweeptrail.system.locks import locked

INTERVAL = 0.2
"""Seconds between two looks at the journals."""

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a server that does not answer; the first pause is INTERVAL, then it doubles."""

IDLE = 60.0
"""Seconds without anything to do after which it ends; whoever writes again starts another."""

PATIENCE = 3600.0
"""Seconds for which it tries a server that does not answer when every process that wrote is gone."""

LONGEST_LOG = 1 << 20

ATTEMPTS = 3
"""How often it finds the lock held before it leaves the work to who holds it: somebody may only have looked."""


def main() -> None:
    """Deliver until there is nothing to do."""
    place = Place(Path(sys.argv[1]), os.environ.pop(URI))
    os.nice(10)
    log = place.folder / LOG
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        os.truncate(log, 0)
    deliverer = Deliverer(place)
    attempts = 0
    while attempts < ATTEMPTS:
        with locked(place.folder / LOCK) as was_free:
            is_given_up = was_free and _work(deliverer)
        # Who wrote since, and saw the lock held, has started nobody.
        if was_free and (is_given_up or not deliverer.has_work()):
            return
        attempts = 0 if was_free else attempts + 1
        time.sleep(0 if was_free else INTERVAL)


def _work(deliverer: Deliverer) -> bool:
    """Deliver until there has been nothing to do for a while; return whether the server is given up for now."""
    pause, busy, failing_since = INTERVAL, time.monotonic(), 0.0
    refused = set[str]()
    while True:
        now = time.monotonic()
        try:
            delivered = deliverer.deliver()
        except Exception as error:  # whatever it was, the next attempt may succeed
            if not failing_since:
                failing_since = now
                _say(f"the tracking server does not take what waits: {error}")
            is_alone = not any(writer.is_alive for writer in writers(deliverer.place.folder))
            if is_alone and now - failing_since > PATIENCE:
                return True
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            if failing_since:
                _say("the tracking server takes it again")
            pause, failing_since = INTERVAL, 0.0
            _say_refused(deliverer, refused)
            if delivered or deliverer.has_work():
                busy = now
            elif not any(True for _ in writers(deliverer.place.folder)) or now - busy > IDLE:
                return False
            if delivered:
                continue
        _sleep(pause, deliverer.place.folder / WAKE)


def _say_refused(deliverer: Deliverer, said: set[str]) -> None:
    for refusal in sorted({*deliverer.refusals} - said):
        _say(f"the tracking server refused for good, kept on disk: {refusal}")
        said.add(refusal)


def _sleep(seconds: float, wake: Path) -> None:
    """Wait so long, or until somebody makes the file."""
    limit = time.monotonic() + seconds
    while (left := limit - time.monotonic()) > 0 and not wake.exists():
        time.sleep(min(left, INTERVAL))
    wake.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except SweeptrailError as error:
        _say(str(error))
        sys.exit(error.exit_code)
