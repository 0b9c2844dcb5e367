"""
The lines on stderr, and the forwarding of events to an application's own log.

A run logs through structlog. Importing that takes longer than everything else
that a start imports, so it happens only where a run begins, and only here.
"""

from __future__ import annotations

import math
import os
import sys
from _json import encode_basestring_ascii
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property

from migrator.errors import InterruptedRunError
from migrator.log.writer import Sink
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOGGER = "sqlite-entrypoint"
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_LAST_WORDS = ("run.finished", "app.failed")
"""What a run and its start end with: no level filters it, and its reader is given a moment."""
_COMMON = ("timestamp", "level", "event", "message", "logger", "run_id", "database")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class _Once:
    """What a run finds twice, looking before the lock and under it, and says once."""

    _EVENTS = ("history.misfit",)

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def again(self, event: str, message: str) -> bool:
        """Tell whether an event has been said before, and note that it has."""
        if event not in self._EVENTS:
            return False
        before = (event, message) in self._said
        self._said.add((event, message))
        return before


class Log:
    """
    The log of a run: one line an event, JSON or for people.

    Logging never fails a run: what cannot be written is dropped, what cannot
    be rendered is replaced by what can.

    Args:
        format: `json` or `console`.
        level: The least level that is written; `run.finished` always is.
        database: The database's absolute path, once it is known.
        run_id: The run's id, once it is known.
        terminal: Whether a person watches: progress is then a bar (console).
            None: look.
        colors: Whether console lines are coloured. None: look.
        fd: The descriptor to write to.
    """

    def __init__(
        self,
        format: str = "json",  # noqa: A002 - what it is called everywhere else
        level: str = "info",
        *,
        database: str | os.PathLike[str] | None = None,
        run_id: str | None = None,
        terminal: bool | None = None,
        colors: bool | None = None,
        fd: int = 2,
    ) -> None:
        self.run_id = run_id
        self.database = database
        self.format = format
        self.level = level
        self._console = format == "console"
        self._terminal = os.isatty(fd) if terminal is None else terminal
        self._bar = self._console and self._terminal
        self._colors = colors
        self._sink = Sink(fd)
        self._once = _Once()
        self._thorough = False

    def give_up_when(self, stopping: Callable[[], bool]) -> None:
        """Drop lines without a reader once this process has to end."""
        # Waiting for a reader that has stopped reading would ignore every signal.
        self._sink.stopping = stopping

    def expect_run(self) -> None:
        """
        Log through structlog from here on: there is more to come than a few lines.

        Importing it takes longer than all else that a start with nothing
        pending does, and more memory. So that happens with the next line, which is the
        worker's first: beside the worker, and not in it. Until then `json_line` alone
        makes the lines.
        """
        self._thorough = True

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Write one event; `fields` are better JSON values, and are made so where they are not."""
        if self._once.again(event, message):
            return
        level = level if level in LEVELS else "info"
        if event not in _LAST_WORDS and LEVELS[level] < LEVELS[self.level]:
            return
        if self._bar and event.endswith(".progress"):
            self._sink.draw(_progress(event, fields))
            return
        common = {
            "message": message,
            "logger": LOGGER,
            "run_id": self.run_id,
            "database": self.database,
        }
        line = {**common, **fields}
        head = {"level": level, "event": event}
        if not self._console and not self._thorough:
            self._write_plainly({**line, **head}, {**common, **head})
            return
        try:
            self._structlog.log(LEVELS[level], event, **line)
        except InterruptedRunError:
            # A signal came in the middle of it: that ends the run, not the line.
            raise
        except Exception as error:  # noqa: BLE001 - a log line never fails a run
            trouble = {"log_error": _trouble(error)}
            self._write_plainly({**line, **head, **trouble}, {**common, **head, **trouble})

    @cached_property
    def _structlog(self) -> Any:
        """The structlog logger: the steps from an event to its line, whatever its level."""
        import structlog
        from structlog import processors

        render = _for_people(self._wants_colors()) if self._console else json_line
        return structlog.wrap_logger(
            self._sink,
            processors=[
                processors.add_log_level,
                processors.MaybeTimeStamper(fmt=_TIME, utc=True),
                # What comes last is handed to the sink as its arguments.
                lambda *event: ((render(*event),), {"last": event[2]["event"] in _LAST_WORDS}),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
            cache_logger_on_first_use=True,
        )

    def _wants_colors(self) -> bool:
        if self._colors is not None:
            return self._colors
        from migrator.options.table import read_environment, wants_colors

        return wants_colors(read_environment(), terminal=self._terminal)

    def _write_plainly(self, *lines: Mapping[str, Any]) -> None:
        """Write the first of these lines that can be rendered, without structlog."""
        more = {"timestamp": _now()}
        for line in lines:
            try:
                text = json_line(None, "", {**line, **more})
            except InterruptedRunError:
                raise
            except Exception as error:  # noqa: BLE001 - a log line never fails a run
                more.setdefault("log_error", _trouble(error))
            else:
                self._sink.write(text, last=line["event"] in _LAST_WORDS)
                return


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime(_TIME)


def _trouble(error: Exception) -> str:
    return f"{type(error).__name__} while this line was rendered"


def clean(value: Any) -> Any:
    """
    Turn a value into one that every JSON reader understands.

    File names may hold bytes that are no UTF-8 (lone surrogates here), and
    JSON has neither NaN nor infinities.
    """
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, Mapping):
        return {_text(key): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((clean(each) for each in value), key=repr)
    plain = value is None or isinstance(value, int)
    if plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    """Turn a value into a text that can be encoded."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_line(_logger: object, _method: str, event: Mapping[str, Any]) -> str:
    """
    Render an event as a line of JSON.

    It is the last of structlog's processors in a run, which gives it its first two
    arguments; a start with nothing pending calls it by itself.
    """
    return _as_json(_ordered(event))


def _for_people(colors: bool) -> Callable[[object, str, Mapping[str, Any]], str]:
    """Return what renders an event for people, as `json_line` does for programs."""
    from migrator.log.console import Console

    console = Console(colors=colors)
    return lambda _logger, _method, event: console.render(_ordered(event))


def _as_json(value: Any) -> str:
    """Render a value that `clean` has made plain, as `json.dumps` does."""
    match value:
        case str():
            # json's part in C alone: importing `json` takes longer than a start's few lines.
            return encode_basestring_ascii(value)
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int():
            return int.__repr__(value)
        case float():
            return float.__repr__(value)
        case dict():
            pairs = (f"{_as_json(key)}: {_as_json(each)}" for key, each in value.items())
            return f"{{{', '.join(pairs)}}}"
    return f"[{', '.join(map(_as_json, value))}]"


def _ordered(event: Mapping[str, Any]) -> dict[str, Any]:
    """Put what every line has first, and make every value plain."""
    common = {key: clean(event[key]) for key in _COMMON}
    return common | {_text(key): clean(each) for key, each in event.items() if key not in common}


_WIDTH = 20
_MEGA = 1_000_000


def _progress(event: str, fields: Mapping[str, Any]) -> str:
    """
    Return the text of a progress bar.

    Args:
        event: `backup.progress` or `migration.progress`.
        fields: `bytes`, `total_bytes`, `seconds`, `version`, `name`, as far
            as the event has them.
    """
    subject = event.removesuffix(".progress")
    done, total, seconds = (fields.get(key) for key in ("bytes", "total_bytes", "seconds"))
    if done is None:
        told = [fields[key] for key in ("version", "name", "check", "phase") if key in fields]
        name = " ".join(printable(str(each)) for each in told)
        return f"{subject}  {name}  {seconds or 0:.0f} s"
    parts = [subject, f"{done / _MEGA:.0f} MB"]
    if total:
        share = min(done / total, 1.0)
        filled = round(share * _WIDTH)
        parts[1:] = [f"[{'#' * filled}{'.' * (_WIDTH - filled)}]", f"{share * 100:.0f} %"]
    if seconds:
        parts.append(f"{done / _MEGA / seconds:.0f} MB/s")
        if total and 0 < done < total:
            parts.append(f"{seconds * (total - done) / done:.0f} s left")
    return "  ".join(parts)


class Forward:
    """
    An `Emit` that hands events to structlog as the application configured it.

    Args:
        logger: A structlog logger, or anything with `debug`, `info`,
            `warning` and `error`.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._once = _Once()
        self.run_id: str | None = None
        self.database: str | os.PathLike[str] | None = None

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Hand one event on."""
        if self._once.again(event, message):
            return
        common = {"message": message, "run_id": self.run_id, "database": clean(self.database)}
        try:
            # Only here structlog makes the logger, which may fail as well.
            getattr(self._logger, level)(event, **{**common, **fields})
        except Exception:  # noqa: BLE001 - the application's log never fails a run
            # structlog over logging refuses fields that a LogRecord has itself:
            # `message` and `name` (logging.Logger.makeRecord).
            with suppress(Exception):
                getattr(self._logger, level)(f"{event}: {message}")


class _OnStderr:
    """
    The log of an application without a logging configuration: warnings and errors, for people.

    Standard output is the application's, and structlog's own default would print there.
    """

    def __init__(self) -> None:
        self._render = _for_people(colors=False)

    def debug(self, event: str, **fields: Any) -> None:
        """Log nothing below a warning: the application has not asked for it."""

    info = debug

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line of that level."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a line of that level."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = {"timestamp": _now(), "level": level, "event": event, "logger": LOGGER, **fields}
        text = self._render(None, level, {"database": None, "run_id": None, **line})
        if sys.stderr is not None:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def to_structlog() -> Forward:
    """
    Return an `Emit` for the Python API, to the logger of our name.

    Where the application has not configured structlog, stderr gets warnings and errors.
    """
    # If structlog was never imported, the application has not configured it.
    structlog: Any = sys.modules.get("structlog")
    configured = structlog is not None and structlog.is_configured()
    return Forward(structlog.get_logger(LOGGER) if configured else _OnStderr())
