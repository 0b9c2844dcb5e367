"""The old state back: after an error, a crash, lost locks, or a full disk."""
