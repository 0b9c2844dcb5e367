"""A run: the migrations, in place or on a copy, with their proof and their commit."""
