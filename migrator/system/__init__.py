"""What is asked of the operating system: files, permissions, signals, time, processes."""
