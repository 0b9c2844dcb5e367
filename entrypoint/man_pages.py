"""
Write the manual pages from the tables that the programs read their command lines with.

The form is that of man(7), as groff and mandoc both take it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from entrypoint.exit_codes import EXIT_CODES
from entrypoint.options import OPTIONS
from migrator.commands.table import COMMANDS
from migrator.options.model import Command, Option
from migrator.options.table import ENGINE_OPTIONS
from migrator.options.usage import STANDARD, default_text


def migrator_page() -> str:
    """Return migrator(1)."""
    return _page(
        "migrator",
        "bring an SQLite database up to date, or put it back",
        [r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"],
        (
            _section(
                "description",
                _text(
                    "Runs the pending migrations of an SQLite database, all or none: backed up,"
                    " in one transaction, verified, and as before when anything fails. Results go"
                    " to standard output, the log goes to standard error. In a container whose"
                    " entrypoint is `entrypoint`, the command line follows the image's name or"
                    " the service's."
                ),
            ),
            _section("commands", *map(_command, COMMANDS)),
            _section("options", _text("Before or after the command."), *_options(ENGINE_OPTIONS)),
            _exit_status(),
            _files(),
            _section("see also", r"\fBentrypoint\fR(1), \fBsqlite3\fR(1)"),
        ),
    )


def entrypoint_page() -> str:
    """Return entrypoint(1)."""
    return _page(
        "entrypoint",
        "bring an SQLite database up to date, then become the application",
        [r"[\fIOPTIONS\fR] [\-\-] [\fICOMMAND\fR [\fIARG\fR ...]]"],
        (
            _section(
                "description",
                _text(
                    "Waits for the volume, backs the SQLite database up, runs the pending"
                    " migrations, verifies the result, puts the old database back if anything"
                    " fails, and then becomes COMMAND. Without COMMAND it exits 0 when the"
                    " database is ready: an initContainer."
                ),
                ".PP",
                _text("It is installed as `sqlite-entrypoint` as well."),
            ),
            _section("options", *_options(OPTIONS)),
            _exit_status(),
            _files(),
            _section("see also", r"\fBmigrator\fR(1), \fBsqlite3\fR(1), \fBtini\fR(1)"),
        ),
    )


PAGES: dict[str, Callable[[], str]] = {
    "migrator.1": migrator_page,
    "entrypoint.1": entrypoint_page,
    "sqlite-entrypoint.1": lambda: ".so man1/entrypoint.1\n",
}
"""What writes each page, by its file's name."""


def _page(name: str, about: str, usages: Iterable[str], sections: Iterable[str]) -> str:
    return "\n".join(
        (
            r".\" Written by entrypoint/man_pages.py: change the tables, not this page.",
            f'.TH {name.upper()} 1 "" "sqlite\\-entrypoint" "User Commands"',
            _section("name", rf"{name} \- {about}"),
            _section("synopsis", *(rf"\fB{name}\fR {usage}" for usage in usages)),
            *sections,
            "",
        )
    )


def _section(title: str, *lines: str) -> str:
    return "\n".join((f".SH {title.upper()}", *lines))


def _command(command: Command) -> str:
    """Return a command as its help shows it: usage, summary, arguments, example."""
    summary = command.summary[0].upper() + command.summary[1:] + "."
    lines = [f'.SS "{_text(command.usage)}"', _text(summary)]
    if command.argument is not None:
        lines.append(_tagged(rf"\fI{command.argument.metavar}\fR", command.argument.help))
    lines += [_tagged(_flag(option), option.help) for option in command.options]
    return "\n".join((*lines, ".PP", ".EX", rf"$ {_text(command.example)}", ".EE"))


def _options(options: Sequence[Option]) -> list[str]:
    """Return the options with their variables and defaults, and those that every program has."""
    rows = [_tagged(_flag(option), _about(option)) for option in options]
    return [*rows, *(_tagged(_text(f"`{flag}`"), about) for flag, about in STANDARD)]


def _flag(option: Option) -> str:
    value = "" if option.switch else rf" \fI{_text(option.value_name)}\fR"
    return _text(f"`{option.flag}`") + value


def _about(option: Option) -> str:
    variables = re.sub(r"[A-Z_]{2,}", r"`\g<0>`", option.source)
    return f"{option.help} [{variables}; default: {default_text(option)}]"


def _exit_status() -> str:
    rows = [_tagged(_text(f"`{code}`"), _outcome(*row)) for code, *row in EXIT_CODES]
    return _section("exit status", *rows)


def _outcome(outcome: str, database: str) -> str:
    return f"{outcome}; the database: {database}" if database else outcome


def _files() -> str:
    return _section(
        "files",
        _tagged(_text("`app.db.migrator/`"), "beside the database: the lock, and a run's notes"),
        _tagged(_text("`backups/`"), "beside the database, unless `--backup-dir` says otherwise"),
    )


def _tagged(tag: str, about: str) -> str:
    """Return a paragraph with a tag that hangs out of it."""
    return f".TP\n{tag}\n{_text(about)}"


def _text(text: str) -> str:
    """Escape a text for roff: text in backquotes becomes bold, the rest is literal."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped.replace('"', r"\(dq"))
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)
