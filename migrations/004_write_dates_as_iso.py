"""
Dates as ISO 8601 (`2024-03-14`) instead of day first (`14/03/2024`).

Text in the old form sorts by day of the month, so that no query could say
which loans are overdue.
"""

import sqlite3

description = "dates of loans and members as ISO 8601"
requires = ("002",)

COLUMNS = (("members", "joined_on"), ("loans", "lent_on"), ("loans", "returned_on"))


def iso(text: str) -> str:
    """Turn `14/03/2024` into `2024-03-14`, and leave every other text as it is."""
    parts = text.split("/")
    if len(parts) != 3:
        return text
    day, month, year = parts
    return f"{year}-{month:0>2}-{day:0>2}"


def day_first(text: str) -> str:
    """Turn `2024-03-14` into `14/03/2024`, and leave every other text as it is."""
    parts = text.split("-")
    if len(parts) != 3:
        return text
    year, month, day = parts
    return f"{day}/{month}/{year}"


def up(conn: sqlite3.Connection) -> None:
    """Rewrite every date in one pass a column."""
    conn.create_function("iso", 1, iso, deterministic=True)
    for table, column in COLUMNS:
        conn.execute(f"UPDATE {table} SET {column} = iso({column}) WHERE {column} LIKE '%/%'")
    conn.commit()


def down(conn: sqlite3.Connection) -> None:
    """Put the old form back."""
    conn.create_function("day_first", 1, day_first, deterministic=True)
    for table, column in COLUMNS:
        conn.execute(f"UPDATE {table} SET {column} = day_first({column}) WHERE {column} LIKE '%-%'")
    conn.commit()


def check_after(conn: sqlite3.Connection) -> None:
    """Refuse the result when a date is left that SQLite cannot read."""
    for table, column in COLUMNS:
        (bad,) = conn.execute(
            f"SELECT count(*) FROM {table} WHERE {column} IS NOT NULL AND date({column}) IS NULL"
        ).fetchone()
        if bad:
            msg = f"{bad} values of {table}.{column} are no dates after the rewrite."
            raise ValueError(msg)
