"""The commands for the server that a team shares."""

from sweeptrail.cli.server import accounts, backups, lifecycle

__all__ = ["accounts", "backups", "lifecycle"]
