"""The sinks of a run that are written here, and the rule for those that fail."""
