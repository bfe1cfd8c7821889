"""Words on the command line to calls in the library."""

from sweeptrail.cli import compare, doctor, init, maintenance, predict, server, sweeps, tensorboard
from sweeptrail.cli.group import main

__all__ = ["compare", "doctor", "init", "main", "maintenance", "predict", "server", "sweeps", "tensorboard"]
