"""What lies on the volume: the database's file, and ours beside it."""
