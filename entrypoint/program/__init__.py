"""The application's command: found, examined, and executed at the end."""
