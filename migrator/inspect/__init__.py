"""What is true of a database and its migrations, found without writing."""
