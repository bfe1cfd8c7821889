"""What an engine is given to do with each job, light enough for a driver that never loads torch."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.records import Job, RunResult

if TYPE_CHECKING:
    from sweeptrail.fashion_mnist.train import Trainer


@dataclass
class Training:
    """Trains a network on these data for each job."""

    data: FashionMnist

    def __call__(self, job: Job) -> RunResult:
        """Carry out one run; whatever goes wrong in it is in the result."""
        return self._trainer.carry_out(job)

    @cached_property
    def _trainer(self) -> "Trainer":
        from sweeptrail.fashion_mnist.train import Trainer  # 1.5 s, in the process that trains

        return Trainer(self.data)
