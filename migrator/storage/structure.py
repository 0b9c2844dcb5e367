"""What `PRAGMA quick_check` and `PRAGMA integrity_check` say, line by line."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

_CODE = re.compile(r"\berror code=(\d+)$")
_OF_THE_DISK = {
    sqlite3.SQLITE_IOERR: "disk I/O error",
    sqlite3.SQLITE_FULL: "database or disk is full",
}


def findings(rows: Iterable[Any]) -> list[str]:
    """
    Return what a check has found wrong, in SQLite's words; empty where all is well.

    A page that could not be read or cached stands among SQLite's findings, with the
    code for it ("unable to get the page. error code=13"): that is no damage.

    Args:
        rows: The pragma's.

    Raises:
        sqlite3.OperationalError: A page could not be had; with SQLite's code.
    """
    # Structural problems come as one text of several lines under a heading.
    lines = [line for row in rows for line in str(row[0]).splitlines()]
    for line in lines:
        match = _CODE.search(line)
        code = int(match[1]) if match is not None else sqlite3.SQLITE_OK
        if code & 0xFF in _OF_THE_DISK:
            error = sqlite3.OperationalError(_OF_THE_DISK[code & 0xFF])
            error.sqlite_errorcode = code
            raise error
    return [line for line in lines if line != "ok" and not line.startswith("*** in database")]
