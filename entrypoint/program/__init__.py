"""The application's command: find it, examine it, become it."""
