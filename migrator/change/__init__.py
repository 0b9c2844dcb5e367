"""What a run does to the database: its migrations, or a restore."""
