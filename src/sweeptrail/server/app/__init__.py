"""MLflow's server as a team needs it: how it is started, what it is guarded from, what is replaced in it."""
