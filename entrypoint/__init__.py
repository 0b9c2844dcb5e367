"""The container's side: volumes, settings, signals, privileges, and the exec of the application."""
