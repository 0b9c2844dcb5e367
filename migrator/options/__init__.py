"""What the flags and variables mean: one table of options, and its parsers."""
