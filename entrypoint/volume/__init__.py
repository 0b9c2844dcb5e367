"""The database's volume: its mounts, the checks on it, the wait for it, and who shares it."""
