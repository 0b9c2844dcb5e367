"""The volume below the database: its mounts, the checks on it, and who shares it."""
