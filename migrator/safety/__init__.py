"""As before, whatever happens: the database held alone, recovery, restoring a backup."""
