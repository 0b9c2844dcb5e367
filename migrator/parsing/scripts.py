"""
Read migrations fully: parse all of them before the first one runs.

`read` never runs a line of a migration; `load` imports a `.py` file, in the worker only.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any

from migrator.errors import MisfitError
from migrator.model import Entry, Script
from migrator.parsing import python_file, sql_file
from migrator.parsing.directory import misfit
from migrator.parsing.file_names import version_key
from migrator.value import replace

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read(entry: Entry) -> Script:
    """
    Read and parse one file.

    Args:
        entry: A migration of a directory.

    Returns:
        The script; for a `.py` file without its functions, which `load` adds.

    Raises:
        MisfitError: The file cannot be read or parsed, with `file` and `line`
            in its data.
    """
    if entry.path is None:
        return Script(entry)
    source = python_file.read_bytes(entry.path)
    text = decoded(entry, source)
    script = Script(entry, checksum=_checksum(text))
    return _read_sql(script, text) if entry.path.suffix == ".sql" else _read_python(script, text)


def read_all(entries: Iterable[Entry]) -> tuple[Script, ...]:
    """
    Read and parse all files; `check_requires` judges what they require.

    Raises:
        MisfitError: One error that lists every faulty file.
    """
    return read_each(read, entries)


def read_each(read_one: Callable[[Entry], Script], entries: Iterable[Entry]) -> tuple[Script, ...]:
    """
    Read all files with the reader of their format.

    Raises:
        MisfitError: One error that lists every faulty file.
    """
    scripts: list[Script] = []
    faults: list[MisfitError] = []
    for entry in entries:
        try:
            scripts.append(read_one(entry))
        except MisfitError as error:
            faults.append(error)
    if faults:
        raise _together(faults) from faults[0]
    return tuple(scripts)


def check_requires(scripts: Iterable[Script], applied_keys: Collection[Any] = ()) -> None:
    """
    Check that every required version is there and comes earlier.

    Args:
        scripts: The migrations.
        applied_keys: The keys of applied migrations, which count as well.

    Raises:
        MisfitError: A requirement is unknown, circular or later than its migration.
    """
    known = {script.entry.key: script for script in scripts}
    faults = [
        fault
        for script in known.values()
        for wanted in script.requires
        if (fault := _unmet(script, wanted, known, applied_keys)) is not None
    ]
    if faults:
        raise _together(faults)


def load(script: Script) -> Script:
    """
    Import a `.py` migration into this process, and take its functions.

    Returns:
        The script with `up`, `down` and its checks; an `.sql` script, or one
        registered in code, as it is.

    Raises:
        MisfitError: The file does not import, was changed since it was read,
            or has no callable `up(conn)`.
    """
    path = script.entry.path
    if path is None or path.suffix != ".py" or script.up is not None:
        return script
    source = python_file.read_bytes(path)
    if script.checksum not in (None, _checksum(decoded(script.entry, source))):
        raise misfit(
            script.entry,
            "the file was changed while it was being read.",
            hint="Start again once the migrations are complete.",
            reason="migrations.changed_meanwhile",
        )
    module = python_file.load_module(path, source, version=script.entry.version)
    up = _function(script.entry, module, "up")
    if up is None:
        raise misfit(
            script.entry,
            "there is no function `up`.",
            hint="Define `def up(conn):`.",
            reason="migrations.no_up",
        )
    down = _function(script.entry, module, "down")
    return replace(
        script,
        up=up,
        down=down,
        has_down=down is not None,
        check_before=_function(script.entry, module, "check_before"),
        check_after=_function(script.entry, module, "check_after"),
    )


def checked_function(
    entry: Entry, function: Any, name: str, argument: str = "conn"
) -> Callable[..., Any]:
    """
    Return a migration's function, if a call with one argument runs it.

    Args:
        entry: The migration, for messages.
        function: The object of that name.
        name: The name, such as `up`.
        argument: The argument of the call, for the hint.

    Raises:
        MisfitError: It is not callable, is a coroutine or generator function
            (whose call runs nothing), or does not take one argument.
    """
    trouble = _why_not_callable(function)
    if trouble is None:
        return function  # type: ignore[no-any-return]
    code = getattr(function, "__code__", None)
    raise misfit(
        entry,
        f"`{name}` {trouble}.",
        hint=f"Write it as a plain function: `def {name}({argument}):`.",
        reason="migrations.bad_function",
        line=getattr(code, "co_firstlineno", None),
    )


def _why_not_callable(function: Any) -> str | None:
    if not callable(function):
        return f"is not callable but {type(function).__name__}"
    for part in (function, getattr(function, "__call__", None)):  # noqa: B004 - its kind is asked
        if inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part):
            return "is an async function, which would be called and never run"
        if inspect.isgeneratorfunction(part):
            return "contains `yield`, so that calling it would run nothing"
    try:
        # A decorator may add arguments, so the outermost signature counts.
        inspect.signature(function, follow_wrapped=False).bind(object())
    except TypeError as error:
        return f"cannot be called with one argument ({error})"
    except ValueError:
        # A function written in C may have no signature.
        return None
    return None


def _function(entry: Entry, module: Any, name: str) -> Callable[..., Any] | None:
    function = getattr(module, name, None)
    return None if function is None else checked_function(entry, function, name)


def text_of(entry: Entry) -> str:
    """
    Return the text of another tool's file as it is, but for a byte order mark.

    Raises:
        MisfitError: It cannot be read, or is not UTF-8.
    """
    if entry.path is None:
        return ""
    return _as_written(entry, python_file.read_bytes(entry.path))


def _read_sql(script: Script, text: str) -> Script:
    parsed = sql_file.parse(script.entry, text)
    found = script.with_sql(parsed.up, parsed.down, parsed.allow_row_loss)
    return replace(found, mark=parsed.mark) if parsed.mark is not None else found


def _read_python(script: Script, text: str) -> Script:
    # `ast` costs an import, which a directory of .sql files does not need.
    from migrator.parsing import python_header

    found = python_header.read(script.entry, text)
    return replace(
        script,
        description=found.description,
        transactional=found.transactional,
        down_transactional=found.transactional,
        has_down=found.has_down,
        requires=found.requires,
        allow_row_loss=found.allow_row_loss,
    )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def decoded(entry: Entry, source: bytes) -> str:
    """Decode a file as `_as_written` does, with lines ended by LF."""
    return _as_written(entry, source).replace("\r\n", "\n").replace("\r", "\n")


def _as_written(entry: Entry, source: bytes) -> str:
    """
    Decode a file, without its byte order mark.

    Raises:
        MisfitError: It is not UTF-8 (or, in Python, not the encoding of its coding line),
            or has a NUL, which ends a text for SQLite and for Python.
    """
    encoding = _encoding(entry, source)
    try:
        text = source.decode(encoding)
    except (ValueError, LookupError) as error:
        # Not every codec of Python says where it failed, or is for text.
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise _undecodable(entry, source, at, str(error), encoding) from error
    if (at := source.find(b"\0")) >= 0:
        raise _undecodable(entry, source, at, "it holds a NUL character")
    return text.removeprefix("\ufeff")


def _encoding(entry: Entry, source: bytes) -> str:
    """Return the encoding of a file; only a Python file may declare another than UTF-8."""
    head = source[:512].split(b"\n", 2)[:2]
    if entry.file is None or not entry.file.endswith(".py") or b"coding" not in b"".join(head):
        return "utf-8"
    import tokenize

    lines = iter(source.splitlines(keepends=True))
    try:
        return tokenize.detect_encoding(lambda: next(lines, b""))[0]
    except SyntaxError:
        return "utf-8"


def _undecodable(
    entry: Entry, source: bytes, at: int, what: str, encoding: str = "utf-8"
) -> MisfitError:
    looks_like = " It looks like UTF-16." if source.startswith(_UTF16) else ""
    return misfit(
        entry,
        f"this is not text in {encoding.upper()}: {what}.{looks_like}",
        hint="Save the file as UTF-8.",
        reason="migrations.encoding",
        line=1 + source.count(b"\n", 0, at),
    )


def _unmet(
    script: Script, wanted: str, known: dict[Any, Script], applied_keys: Collection[Any]
) -> MisfitError | None:
    """Return the error about one requirement, None if it is met."""
    key = version_key(wanted)
    hint = "Name earlier migrations only; those that come later are numbered after it."
    if key is not None and key in known:
        circle = _circle(script, known)
        if circle:
            message = f"`requires` forms a cycle: {' → '.join(circle)}."
        elif key < script.entry.key:
            return None
        else:
            message = f"it requires {wanted!r}, which comes later and cannot run before it."
    elif key is not None and key in applied_keys:
        return None
    else:
        message = f"it requires {wanted!r}, which is neither here nor applied."
        hint = "Add the migration that is missing, or correct `requires`."
    return misfit(script.entry, message, hint=hint, reason="migrations.requires")


def _circle(script: Script, known: dict[Any, Script]) -> list[str]:
    """Return the versions of a cycle of requirements through a script, or nothing."""
    trails = [[script]]
    seen: set[Any] = set()
    while trails:
        trail = trails.pop()
        for wanted in trail[-1].requires:
            key = version_key(wanted)
            if key == script.entry.key:
                return [part.entry.version for part in (*trail, script)]
            if key in known and key not in seen:
                seen.add(key)
                trails.append([*trail, known[key]])
    return []


def _together(faults: list[MisfitError]) -> MisfitError:
    """Join the errors about several migrations, with the data of the first."""
    first = faults[0]
    message = first.message
    if len(faults) > 1:
        message = f"{len(faults)} faults in the migrations: " + " | ".join(
            fault.message for fault in faults
        )
    problems = [
        {
            "kind": fault.reason.removeprefix("migrations."),
            "version": fault.data.get("version") or "",
            "message": fault.message,
        }
        for fault in faults
    ]
    return MisfitError(
        message, hint=first.hint, reason=first.reason, data={**first.data, "problems": problems}
    )
