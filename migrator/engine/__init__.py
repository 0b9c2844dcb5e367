"""The parent process: it has a worker do the run, and confirms the outcome."""
