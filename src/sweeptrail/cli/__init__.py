"""Words on the command line to calls in the library."""

from sweeptrail.cli import compare, doctor, predict, server, sweeps, tensorboard, upkeep
from sweeptrail.cli.group import main

__all__ = ["compare", "doctor", "main", "predict", "server", "sweeps", "tensorboard", "upkeep"]
