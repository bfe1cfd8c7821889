"""Has a run pause after an epoch, to go on later or never."""

from sweeptrail.errors import Paused
from sweeptrail.records import Epoch
from sweeptrail.sink import Sink


class Pause(Sink):
    """Lets a task go no further than an epoch; it is told last, when all others have kept it."""

    def __init__(self, after: int) -> None:
        self._after = after

    def epoch(self, epoch: Epoch) -> None:
        if epoch.epoch >= self._after:
            raise Paused  # out of the task's loop and of the task
