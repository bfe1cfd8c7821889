"""Ends a run after its first epoch, for its time to be known."""

from sweeptrail.records import Epoch
from sweeptrail.sink import Sink


class FirstEpoch(Sink):
    """Lets a task go no further than its first epoch; it is told last, so that all that an epoch costs is counted."""

    def epoch(self, epoch: Epoch) -> None:
        raise SystemExit("the first epoch is over")  # which no `except Exception` of a task catches
