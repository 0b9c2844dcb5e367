"""What a migration is: files and registries, found, read and loaded."""
