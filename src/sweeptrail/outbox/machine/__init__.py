"""The outbox of this machine for one tracking server: any process writes to it, and one of its own delivers."""
