"""The worker process: start it, supervise it, end it, and undo what migrations do to it."""
