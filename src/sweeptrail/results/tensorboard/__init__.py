"""TensorBoard on the event files of runs, wherever they are."""
