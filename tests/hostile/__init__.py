"""Whoever may write the volume, but not the image: what docs/security.md says that they cannot do."""
