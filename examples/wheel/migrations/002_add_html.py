"""Articles are rendered once and not at each request."""

import sqlite3

from articles import as_html


def up(conn: sqlite3.Connection) -> None:
    """Add the column and fill it."""
    conn.execute("ALTER TABLE articles ADD COLUMN html TEXT NOT NULL DEFAULT ''")
    for row in conn.execute("SELECT id, text FROM articles").fetchall():
        conn.execute("UPDATE articles SET html = ? WHERE id = ?", (as_html(row[1]), row[0]))


def down(conn: sqlite3.Connection) -> None:
    """Drop the column."""
    conn.execute("ALTER TABLE articles DROP COLUMN html")
