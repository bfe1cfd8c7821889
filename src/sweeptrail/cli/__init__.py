"""Words on the command line to calls in the library."""

from sweeptrail.cli import compare, doctor, maintenance, predict, server, sweeps, tensorboard
from sweeptrail.cli.group import main

__all__ = ["compare", "doctor", "main", "maintenance", "predict", "server", "sweeps", "tensorboard"]
