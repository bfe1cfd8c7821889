"""The built-in task: the only room that knows this data set."""
