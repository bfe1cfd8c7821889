"""The PostgreSQL that a server keeps its runs and its users in."""
