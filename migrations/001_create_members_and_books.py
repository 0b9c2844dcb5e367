"""The library opens: who may borrow, and what there is to borrow."""

import sqlite3

description = "members and books"


def up(conn: sqlite3.Connection) -> None:
    """Create the two tables that everything else refers to."""
    conn.execute(
        """
        CREATE TABLE members (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            joined_on TEXT NOT NULL
        )
        """
    )
    conn.execute(
        """
        CREATE TABLE books (
            id INTEGER PRIMARY KEY,
            title TEXT NOT NULL,
            author TEXT,
            year INTEGER
        )
        """
    )
    conn.commit()


def down(conn: sqlite3.Connection) -> None:
    """Remove both tables."""
    conn.execute("DROP TABLE books")
    conn.execute("DROP TABLE members")
    conn.commit()
