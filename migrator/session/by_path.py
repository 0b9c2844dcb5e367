"""
A file that a migration opens by itself, by its path, instead of being given a connection.

Its connections to that file are ones that record, so that it is known which rows it has deleted
itself. What writes past them (another library, another process) is found by counting the rows of
all tables.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import stat
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from migrator.session.authorizer import RefusedError
from migrator.session.noting import real_in_transaction, settle
from migrator.session.record import Record
from migrator.session.recording import RecordingConnection
from migrator.session.reset import close_cursors

_ARGUMENTS = (
    *("database", "timeout", "detect_types", "isolation_level", "check_same_thread", "factory"),
    *("cached_statements", "uri"),
)
"""Of `sqlite3.connect`, by place."""


def require_there(path: Path) -> None:
    """
    See to it that what worked on a copy has left one.

    Raises:
        RefusedError: The file is gone: opening it would create an empty one.
    """
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            return
    message = "The copy of the database that it was given is not there any more."
    raise RefusedError(message, "Leave the file where it is: at the end it is published.")


class WorkFile:
    """
    A file that a migration opens by itself.

    Attributes:
        path: Where it lies.
        record: What all connections to it have done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = Record()
        self._database = os.path.realpath(path)
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._factories: dict[type, type] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Within, `sqlite3.connect` on the file returns a connection that records."""
        connect = sqlite3.connect
        places = (sqlite3, sqlite3.dbapi2)
        for module in places:
            module.connect = partial(self._connect, connect)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for module in places:
                module.connect = connect  # type: ignore[attr-defined]
            self._close_all()
        require_there(self.path)
        self._note_all()

    def _connect(self, connect: Any, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        if len(args) > len(_ARGUMENTS) or not self._is_meant(given.get("database")):
            return connect(*args, **kwargs)
        # A connection that the migration has let go of is closed: it may hold a lock.
        if len(self._open):
            gc.collect()
        factory = self._recording(given.get("factory", sqlite3.Connection))
        # SQLite is asked what a statement does each time, not only the first time.
        database = given.pop("database")
        conn = connect(database, **{**given, "factory": factory, "cached_statements": 0})
        conn.file = self
        self._open.add(conn)
        return conn

    def _is_meant(self, database: Any) -> bool:
        """Tell whether a path, or a URI, is the file's."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = os.fsdecode(database)
            if text.startswith("file:"):
                from urllib.parse import unquote, urlsplit

                text = unquote(urlsplit(text).path)
            return os.path.realpath(text) == self._database
        return False

    def _recording(self, factory: Any) -> type:
        """Return a subclass of a connection class that records."""
        if factory not in self._factories:
            bases = (
                (_Connection,)
                if factory is sqlite3.Connection
                else (
                    _Connection,
                    factory,
                )
            )
            self._factories[factory] = type(factory.__name__, bases, {})
        return self._factories[factory]

    def take(self, found: Record) -> None:
        """Join what one connection has done."""
        record = self.record
        record.written |= found.written
        record.defined |= found.defined
        record.schema_written |= found.schema_written
        record.replaced |= found.replaced
        record.failures.extend(found.failures)
        record.ledger.add(found.ledger)
        record.ledger.finish()

    def _close_all(self) -> None:
        """Close what was left open, as the end of a process would."""
        gc.collect()
        for conn in list(self._open):
            with contextlib.suppress(sqlite3.Error):
                conn.close()

    def _note_all(self) -> None:
        """Note all tables as written to: by whom, only their rows tell."""
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        with contextlib.closing(sqlite3.connect(self._database)) as conn:
            names = conn.execute(f"{query} ESCAPE '\\'").fetchall()
        self.record.written |= {name for (name,) in names}


class _Connection(RecordingConnection):
    """A migration's own connection; its record is taken over when it is closed."""

    file: WorkFile | None = None

    def close(self) -> None:
        """Close the connection; what it has not committed is undone, as by `sqlite3`."""
        file, self.file = self.file, None
        if file is not None:
            close_cursors(self)
            if real_in_transaction(self):
                sqlite3.Connection.rollback(self)
            settle(self)
            file.take(self.record)
            self.forget_statements()
        super().close()

    def __del__(self) -> None:
        """Close a connection without any reference left."""
        with contextlib.suppress(sqlite3.Error):
            self.close()
