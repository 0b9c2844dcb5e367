"""The database's file and the files beside it: pages, locks, and the run's own state."""
