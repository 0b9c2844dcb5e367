"""
A small lending library: one page, two JSON endpoints and one form.

It knows nothing of migrations. It expects the tables that `migrations/` makes,
and is started by `entrypoint … -- python app.py` once they are there.

Variables: `APP_DATABASE` (a path), `APP_HOST` (127.0.0.1), `APP_PORT` (8000; 0
takes a free one); each has a flag of the same name.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

LONGEST_FORM = 10_000

MOST_READ = """
SELECT books.id, books.title, authors.name AS author, books.year, books.times_lent
FROM books
JOIN authors ON authors.id = books.author_id
ORDER BY books.times_lent DESC, books.title
LIMIT 10
"""

LONGEST_OUT = """
SELECT loans.lent_on, books.title, members.name AS member
FROM loans
JOIN books ON books.id = loans.book_id
JOIN members ON members.id = loans.member_id
WHERE loans.returned_on IS NULL
ORDER BY loans.lent_on
LIMIT 10
"""

COUNTS = """
SELECT
    (SELECT count(*) FROM books) AS books,
    (SELECT count(*) FROM authors) AS authors,
    (SELECT count(*) FROM members) AS members,
    (SELECT count(*) FROM loans) AS loans
"""

LEND = "INSERT INTO loans (book_id, member_id, lent_on) VALUES (?, ?, date('now'))"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Little library</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd }}
</style>
<h1>Little library</h1>
<p>{books} books by {authors} authors, {members} members, {loans} loans.</p>
<h2>Most read</h2>
{most_read}
<h2>Out the longest</h2>
{longest_out}
<h2>Lend</h2>
<form method="post" action="/loans">
<label>Book <input name="book" inputmode="numeric" required size="6"></label>
<label>Member <input name="member" inputmode="numeric" required size="6"></label>
<button>Lend</button>
</form>
</html>
"""


@contextmanager
def opened(database: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the database for one request; it is never created here."""
    address = f"{database.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True)) as conn, conn:
        conn.row_factory = sqlite3.Row
        conn.execute("PRAGMA foreign_keys = ON")
        yield conn


def read(database: Path, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    with opened(database, "ro") as conn:
        return [dict(row) for row in conn.execute(query)]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as an HTML table, its headings named like the columns."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(name.replace('_', ' '))}" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}" for value in row.values()) for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def page(database: Path) -> str:
    """Return the page."""
    return PAGE.format(
        **read(database, COUNTS)[0],
        most_read=table(read(database, MOST_READ)),
        longest_out=table(read(database, LONGEST_OUT)),
    )


class Library(BaseHTTPRequestHandler):
    """Answers one request; `database` is set on a subclass when the server starts."""

    database: Path

    def do_GET(self) -> None:
        """Answer `/`, `/books.json` and `/health`."""
        try:
            self._show(self.path)
        except sqlite3.Error as error:
            self._send_json({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

    def do_POST(self) -> None:
        """Lend a book to a member."""
        if self.path != "/loans":
            self._send_json({"error": "not found"}, HTTPStatus.NOT_FOUND)
            return
        length = min(int(self.headers.get("Content-Length") or 0), LONGEST_FORM)
        form = parse_qs(self.rfile.read(length).decode())
        try:
            with opened(self.database, "rw") as conn:
                conn.execute(LEND, (form["book"][0], form["member"][0]))
        except (KeyError, sqlite3.IntegrityError) as error:
            self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except sqlite3.Error as error:
            self._send_json({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", "/")
            self.end_headers()

    def _show(self, path: str) -> None:
        if path == "/":
            self._send(page(self.database), "text/html; charset=utf-8")
        elif path == "/books.json":
            self._send_json(read(self.database, MOST_READ))
        elif path == "/health":
            self._send_json({"status": "ok", **read(self.database, COUNTS)[0]})
        else:
            self._send_json({"error": "not found"}, HTTPStatus.NOT_FOUND)

    def _send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value) + "\n", "application/json", status)

    def _send(self, text: str, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Keep requests out of the log."""


def arguments() -> argparse.Namespace:
    """Read flags, and variables for what no flag says."""
    env = os.environ
    parser = argparse.ArgumentParser(description="A small lending library.")
    parser.add_argument("--database", type=Path, default=env.get("APP_DATABASE") or "app.db")
    parser.add_argument("--host", default=env.get("APP_HOST") or "127.0.0.1")
    parser.add_argument("--port", type=int, default=env.get("APP_PORT") or "8000")
    return parser.parse_args()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, and leave with 0."""
    options = arguments()
    handler = type("Handler", (Library,), {"database": Path(options.database)})
    with ThreadingHTTPServer((options.host, options.port), handler) as server:

        def stop(*_args: object) -> None:
            # shutdown() waits for the loop, which this handler interrupts.
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"listening on http://{options.host}:{server.server_port}", flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
