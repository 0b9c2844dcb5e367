"""Migrations read: their files found, their text parsed, their code loaded."""
