"""Other tools' migrations: their files as they are, their own tables as the truth."""
