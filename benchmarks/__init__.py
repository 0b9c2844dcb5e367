"""What the work costs, beside what a user would take instead: `python -m benchmarks --help`."""
