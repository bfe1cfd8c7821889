"""Runs in several processes of this machine."""
