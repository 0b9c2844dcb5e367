"""Read migrations: find their files, parse their text, load their code."""
