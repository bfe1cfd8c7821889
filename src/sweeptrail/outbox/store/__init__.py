"""MLflow's stores for `sweeptrail+http`, `sweeptrail+https` and `sweeptrail+sqlite`: no call waits for the network."""
