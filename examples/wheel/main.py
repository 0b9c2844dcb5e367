"""Prints the articles as HTML, and ends."""

import os
import sqlite3
from contextlib import closing

with closing(sqlite3.connect(os.environ["MIGRATOR_DATABASE"])) as conn:
    for (html,) in conn.execute("SELECT html FROM articles ORDER BY id"):
        print(html)
