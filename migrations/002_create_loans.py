"""Loans, which go with their book and with their member."""

import sqlite3

description = "loans"


def up(conn: sqlite3.Connection) -> None:
    """Create the table of loans; dates are written as people write them, day first."""
    conn.execute(
        """
        CREATE TABLE loans (
            id INTEGER PRIMARY KEY,
            book_id INTEGER NOT NULL REFERENCES books(id) ON DELETE CASCADE,
            member_id INTEGER NOT NULL REFERENCES members(id) ON DELETE CASCADE,
            lent_on TEXT NOT NULL,
            returned_on TEXT
        )
        """
    )
    conn.commit()


def down(conn: sqlite3.Connection) -> None:
    """Remove the table."""
    conn.execute("DROP TABLE loans")
    conn.commit()
