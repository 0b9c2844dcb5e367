"""The connection that migrations are handed, and what is watched through it."""
