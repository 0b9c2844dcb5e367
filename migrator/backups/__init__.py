"""Backups: made, named, listed, checked, pruned."""
