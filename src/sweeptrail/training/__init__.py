"""Inside a run."""
