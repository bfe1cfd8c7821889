"""MLflow's client: the one place that talks to a tracking server."""
