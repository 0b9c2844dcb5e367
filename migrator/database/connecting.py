"""
What the application brings to its database: `connect(conn)` of the file that `--connect` names.

It registers functions, collations, tokenizers and extensions on each connection that
migrations, checks and counts use, in the worker only. SQLite asks an authorizer about each
of its statements meanwhile, so that it can neither write nor end a transaction, and it may
not keep the connection. It is tried on an empty database first, before anything is written.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn

from migrator.errors import MisfitError, describe
from migrator.parsing.python_file import is_stop, line_in, load_module, read_bytes
from migrator.sqlite import fold

_PRAGMAS = frozenset(
    (
        *("application_id", "collation_list", "compile_options", "data_version", "database_list"),
        *("encoding", "function_list", "module_list", "page_size", "pragma_list"),
        *("schema_version", "table_info", "table_list", "table_xinfo", "user_version"),
    )
)
"""What only answers, where it is given no value."""
_ABOUT = frozenset(("table_info", "table_list", "table_xinfo"))
"""Of these a value names what is asked about."""
_READS = frozenset(
    (
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_SELECT,
    )
)
_NAMES = {
    getattr(sqlite3, name): name.removeprefix("SQLITE_").replace("_", " ")
    for name in (
        *("SQLITE_ATTACH", "SQLITE_DETACH", "SQLITE_INSERT", "SQLITE_UPDATE", "SQLITE_DELETE"),
        *("SQLITE_PRAGMA", "SQLITE_SAVEPOINT", "SQLITE_TRANSACTION"),
    )
}
_ONLY = (
    "Let it register functions, collations, tokenizers and extensions on the connection, and"
    " nothing else: the run opens and sets it up itself."
)
_NO_EXTENSIONS = (
    "This Python's `sqlite3` cannot load extensions: it was built without"
    " `--enable-loadable-sqlite-extensions`. Debian's Python and the image's can."
)


Function = Callable[[sqlite3.Connection], object]


class Connector:
    """
    The application's `connect(conn)`.

    Args:
        function: It.
        path: The file that it is in, None where code gave it.
    """

    def __init__(self, function: Function, path: Path | None = None) -> None:
        self.function = function
        self.path = path

    @property
    def name(self) -> str:
        """What people call it."""
        return "connect" if self.path is None else self.path.name

    def failure(
        self, text: str, hint: str = _ONLY, error: BaseException | None = None
    ) -> MisfitError:
        """Return the error of a `connect` that fails, or does what it may not."""
        line = None if self.path is None or error is None else line_in(self.path, error)
        place = self.name if line is None else f"{self.name}, line {line}"
        data = {"file": self.name, "line": line, "error": text}
        return MisfitError(f"{place}: {text}", hint=hint, reason="connect.failed", data=data)

    def apply(self, conn: sqlite3.Connection) -> None:
        """
        Have the application register on a connection what the database needs of it.

        Raises:
            MisfitError: It raises, has not run, writes, or keeps the connection.
        """
        before = conn.row_factory, conn.text_factory, conn.isolation_level
        held = sys.getrefcount(conn)
        refused: list[str] = []
        sqlite3.Connection.set_authorizer(conn, _only_reads(refused))
        try:
            result = self.function(conn)
            self._require_run(result)
            del result
        except MisfitError:
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            raise self._raised(error, refused) from error
        finally:
            with suppress(sqlite3.ProgrammingError):
                _put_back(conn, *before)
        if refused:
            text = f"`connect` may not run {refused[0]}."
            raise self.failure(text)
        if sys.getrefcount(conn) > held:
            gc.collect()
        if sys.getrefcount(conn) > held:
            hint = (
                "Let neither a name outside of `connect`, nor a function that it registers, nor a"
                " cursor hold the connection: the run closes it when it needs the file alone."
            )
            text = "`connect` keeps the connection."
            raise self.failure(text, hint)
        try:
            _ = conn.total_changes
        except sqlite3.ProgrammingError as error:
            text = "`connect` closes the connection."
            raise self.failure(text, error=error) from error

    def _require_run(self, result: object) -> None:
        """Refuse an asynchronous function, and a generator: nothing of it has run."""
        if isinstance(result, CoroutineType | GeneratorType):
            result.close()
        elif not (isinstance(result, AsyncGeneratorType) or hasattr(result, "__await__")):
            return
        what = "a generator" if isinstance(result, GeneratorType) else "asynchronous"
        text = f"`connect` is {what}: nothing of it has run."
        raise self.failure(text, "Write `def connect(conn):`, without `async` and `yield`.")

    def _raised(self, error: BaseException, refused: list[str]) -> MisfitError:
        if refused:
            return self.failure(f"`connect` may not run {refused[0]}.", error=error)
        hint = "Mend it: it is called for each connection, also to a database that is still empty."
        if isinstance(error, AttributeError) and "load_extension" in describe(error):
            hint = _NO_EXTENSIONS
        text = f"`connect` failed: {describe(error).rstrip('.')}."
        return self.failure(text, hint, error)


_in_force: ContextVar[Connector | None] = ContextVar("connector", default=None)


def connector(given: Function | Path | None) -> Connector:
    """
    Return the application's `connect`, from the file that it is in or as code gave it.

    Raises:
        MisfitError: The file does not exist, does not import, or has no `connect`.
    """
    return load(given) if isinstance(given, Path) else Connector(given or (lambda _: None))


def load(path: Path) -> Connector:
    """
    Import the application's file.

    Raises:
        MisfitError: It does not exist, does not import, or has no `connect`.
    """
    if not path.exists() or path.is_dir():
        what = "is a directory" if path.is_dir() else "does not exist"
        message = f"The file {str(path)!r} that `--connect` names {what}."
        hint = "Check `--connect` (MIGRATOR_CONNECT), and whether the file is mounted."
        raise MisfitError(message, hint=hint, reason="connect.missing", data={"file": path.name})
    module = load_module(path, read_bytes(path))
    function = getattr(module, "connect", None)
    if not callable(function):
        message = f"{path.name} has no function `connect`."
        hint = "Write `def connect(conn):` in it, which registers what the database needs."
        raise MisfitError(message, hint=hint, reason="connect.missing", data={"file": path.name})
    return Connector(function, path.absolute())


@contextmanager
def in_force(connector: Connector) -> Iterator[None]:
    """
    Within, `prepare` calls it for each connection; first it is tried on an empty database.

    Raises:
        MisfitError: It fails there, or does what it may not.
    """
    trial = sqlite3.connect(":memory:", factory=_Trial, isolation_level=None)
    try:
        connector.apply(trial)
    finally:
        sqlite3.Connection.close(trial)
    token = _in_force.set(connector)
    try:
        yield
    finally:
        _in_force.reset(token)


@contextmanager
def named(path: Path | None) -> Iterator[None]:
    """
    Within, what a file brings is in force; nothing where no file is named.

    Raises:
        MisfitError: It cannot be used.
    """
    with ExitStack() as stack:
        if path is not None:
            stack.enter_context(in_force(load(path)))
        yield


def prepare(conn: sqlite3.Connection) -> None:
    """
    Register on a connection what the application brings to its database, if it brings anything.

    Raises:
        MisfitError: Its `connect` fails.
    """
    connector = _in_force.get()
    if connector is None:
        return
    registrations = getattr(conn, "registrations", None)
    noted = None if registrations is None else registrations.noted()
    connector.apply(conn)
    if registrations is not None and noted is not None:
        # Only what migrations register is taken back from a connection.
        registrations.become(noted)


def _only_reads(refused: list[str]) -> Callable[..., int]:
    """Return an authorizer that lets nothing be written, and notes what was refused."""

    def ask(action: int, first: str | None, second: str | None, *_: object) -> int:
        if action in _READS:
            return sqlite3.SQLITE_OK
        name = fold(first or "")
        asks = second is None or name in _ABOUT
        if action == sqlite3.SQLITE_PRAGMA and name in _PRAGMAS and asks:
            return sqlite3.SQLITE_OK
        what = _NAMES.get(action, "what changes the database")
        refused.append(f"{what} {first}" if first and action in _NAMES else what)
        return sqlite3.SQLITE_DENY

    return ask


def _put_back(
    conn: sqlite3.Connection, row_factory: Any, text_factory: Any, isolation_level: Any
) -> None:
    """Take back what `connect` has set on the connection itself."""
    install = getattr(conn, "_install_authorizer", None)
    if install is None:
        sqlite3.Connection.set_authorizer(conn, None)
    else:
        install()
    conn.row_factory, conn.text_factory = row_factory, text_factory
    if conn.isolation_level != isolation_level:
        conn.isolation_level = isolation_level
    sqlite3.Connection.set_trace_callback(conn, None)
    sqlite3.Connection.set_progress_handler(conn, None, 0)
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        sqlite3.Connection.enable_load_extension(conn, False)  # noqa: FBT003 - its only argument


class _Trial(sqlite3.Connection):
    """The connection of the trial, which says what `connect` may not call."""

    def _refuse(self, name: str) -> NoReturn:
        msg = f"connect() may not call {name}() on the run's connection"
        raise sqlite3.NotSupportedError(msg)

    def close(self) -> None:
        self._refuse("close")

    def commit(self) -> None:
        self._refuse("commit")

    def rollback(self) -> None:
        self._refuse("rollback")

    def set_authorizer(self, *_: Any, **__: Any) -> None:
        self._refuse("set_authorizer")

    def deserialize(self, *_: Any, **__: Any) -> None:
        self._refuse("deserialize")

    def backup(self, *_: Any, **__: Any) -> None:
        self._refuse("backup")

    def create_function(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_count(args, kwargs)
        super().create_function(*args, **kwargs)

    def create_aggregate(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_count(args, kwargs)
        super().create_aggregate(*args, **kwargs)

    def create_window_function(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_count(args, kwargs)
        super().create_window_function(*args, **kwargs)

    @staticmethod
    def _refuse_count(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if fold(str(args[0] if args else kwargs.get("name", ""))) == "count":
            msg = "connect() may not replace count(), by which the run counts rows"
            raise sqlite3.NotSupportedError(msg)
