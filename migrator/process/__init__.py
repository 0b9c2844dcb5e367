"""The worker's process: started, supervised, ended, and what migrations do to it."""
