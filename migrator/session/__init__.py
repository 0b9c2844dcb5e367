"""The connection that migrations are given, and what is recorded through it."""
