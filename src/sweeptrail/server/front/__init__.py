"""What stands before MLflow's application: limits, the login, and the list of what is open to whom."""
