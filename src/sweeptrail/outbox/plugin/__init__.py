"""Anybody's MLflow code, writing through the outbox."""
