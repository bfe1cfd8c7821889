"""Words on the command line to calls in the library."""

from sweeptrail.cli import sweeps, upkeep
from sweeptrail.cli.group import main

__all__ = ["main", "sweeps", "upkeep"]
