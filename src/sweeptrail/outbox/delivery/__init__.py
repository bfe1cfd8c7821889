"""Delivers journals to the tracking server."""
