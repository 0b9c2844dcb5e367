"""What makes a run atomic: in place, on a copy, or as a new file."""
