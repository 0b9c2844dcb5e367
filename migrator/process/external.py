"""Run another tool's command on a database, in its own process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from migrator.errors import MisfitError
from migrator.process import orphans

_CUT = 500
_LINES = 20
"""The last lines of its output, in which the reason of a failure is looked for."""
_LAST_OUTPUT = 5.0
"""Seconds for output after the end, where a process that it left cannot be killed."""


@dataclass(frozen=True, slots=True)
class CommandEnding:
    """How a command ended: its code, negative for a signal, and the last lines that it printed."""

    code: int
    lines: tuple[str, ...]

    def has_said(self, words: Collection[str]) -> bool:
        """Tell whether one of these is in its last lines: SQLite's messages, in any language."""
        return any(word in line for line in self.lines for word in words)

    @property
    def said(self) -> str:
        """The last line with something in it, cut."""
        return next((line for line in reversed(self.lines) if line.strip()), "").strip()[:_CUT]


def run_on(database: Path, words: Sequence[str]) -> CommandEnding:
    """
    Run a command on a database, pass its output on line by line, and end what it leaves behind.

    Raises:
        MisfitError: The program does not exist.
    """
    environ = {**os.environ, "MIGRATOR_DATABASE": str(database)}
    lines: deque[str] = deque(maxlen=_LINES)
    before = orphans.children()
    orphans.subreaper(on=True)
    try:
        with subprocess.Popen(
            filled(words, database),
            executable=program(words),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            output = threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True)
            output.start()
            process.wait()
            # They could go on writing to the copy; and who has the pipe keeps its end away.
            orphans.end_leftovers(before, marked=False)
            output.join(_LAST_OUTPUT)
    finally:
        orphans.subreaper(on=False)
    return CommandEnding(process.returncode, tuple(lines))


def _pass_on(output: IO[bytes], lines: deque[str]) -> None:
    for line in output:
        lines.append(line.decode(errors="replace").rstrip("\n"))
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def is_pending(database: Path, words: Sequence[str]) -> bool:
    """
    Ask a command whether there is something to do: 0 no, 1 or more yes.

    Raises:
        MisfitError: The program does not exist, or a signal ended it.
    """
    done = run_on(database, words)
    if done.code < 0:
        message = f"{Path(words[0]).name}, which says what is pending, {killed_by(-done.code)}."
        raise MisfitError(message, hint="Run it by hand.", reason="migrations.command")
    return done.code != 0


def program(words: Sequence[str]) -> str:
    """
    Return the path of a command's program.

    Raises:
        MisfitError: It does not exist, or may not be executed.
    """
    found = shutil.which(words[0])
    if found is not None:
        return found
    message = f"The command {words[0]!r} is not found, or not executable."
    hint = (
        "Name it by its path in the image, or put its directory on PATH; a shell's syntax needs"
        " `sh -c '...'`."
    )
    raise MisfitError(message, hint=hint, reason="migrations.command")


def filled(words: Sequence[str], database: Path) -> list[str]:
    """Return a command with the database in place of `{database}` and `{url}`."""
    url = f"sqlite:///{database}"
    return [word.replace("{database}", str(database)).replace("{url}", url) for word in words]


def killed_by(number: int) -> str:
    """Say by which signal a command was ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return f"was ended by signal {name}"
