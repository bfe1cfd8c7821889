"""A server in one file, and back."""
