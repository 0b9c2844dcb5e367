"""A rehearsal: the run on a copy of the real database, and a report of what it did there."""
