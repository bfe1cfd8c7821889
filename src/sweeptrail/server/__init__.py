"""The tracking server that a team shares: MLflow's own on PostgreSQL, with logins."""
