"""
Find the application's command and examine it, before anything runs.

Permissions and first bytes tell what execve(2) would refuse. So a start that
cannot end in the application does not migrate its database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping

from entrypoint import privileges
from entrypoint.identities import User
from entrypoint.program import elf
from migrator.errors import CommandNotFoundError, MigratorError, NotExecutableError
from migrator.terminal import quote

CHECK_COMMAND = "Check the command of the image: it must name an executable file."
_FIRST_LINE = "Give it a first line such as `#!/bin/sh`, or name the interpreter: `sh SCRIPT`."
_OPEN_DIRECTORIES = "Open the directories above it in the image: `chmod a+x DIRECTORY`."

_HEAD = 256
"""Bytes that the kernel reads of a program to find out its format (BINPRM_BUF_SIZE)."""

_MAX_INTERPRETERS = 5


def resolve_command(command: str, environ: Mapping[str, str], *, user: User | None = None) -> str:
    """
    Find a command as execvp(3) does, and make sure that it can be executed.

    Args:
        command: A path with a slash, or a name to look for in PATH.
        environ: The environment with that PATH.
        user: The user that will execute it; None for the current one.

    Returns:
        The path to execute.

    Raises:
        CommandNotFoundError: The program or its interpreter does not exist.
        NotExecutableError: It may not, or cannot, be executed.
    """
    if not command:
        raise not_found(command, "the command is an empty name")
    try:
        with privileges.acting_as(user):
            if "/" not in command:
                return _search(command, environ, 0)
            _examine(command, environ, 0)
            return command
    except CommandNotFoundError as error:
        error.hint = _meant(command) or error.hint
        raise


def _search(command: str, environ: Mapping[str, str], depth: int) -> str:
    """Return the first executable program of that name in PATH."""
    path = environ.get("PATH", os.defpath)
    failed: MigratorError | None = None
    for directory in path.split(":"):
        # An empty entry means the working directory.
        candidate = os.path.join(directory or ".", command)
        if not os.path.lexists(candidate):
            continue
        try:
            _examine(candidate, environ, depth)
        except (CommandNotFoundError, NotExecutableError) as error:
            failed = failed or error
        else:
            return candidate
    raise failed or not_found(command, f"{command!r} is in no directory of PATH")


def _meant(command: str) -> str:
    """Return the hint for a command of `migrator` that was given without its name."""
    from migrator.commands.table import BY_NAME

    return f"Did you mean `migrator {command}`?" if command in BY_NAME else ""


def _examine(path: str, environ: Mapping[str, str], depth: int) -> None:
    """Raise what executing a file would fail with."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise not_found(path, f"{path!r} does not exist") from None
    except OSError as error:
        hint = _OPEN_DIRECTORIES if error.errno == errno.EACCES else CHECK_COMMAND
        raise _refuse(path, f"it cannot be examined ({error.strerror})", hint) from error
    if stat.S_ISDIR(found.st_mode):
        raise _refuse(path, "it is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "it is not a regular file")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise _forbidden(path, found)
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD) or b""
            _examine_content(path, head, file.fileno(), environ, depth)
    except PermissionError:
        # Executable but not readable: only the kernel can tell.
        return


def _examine_content(
    path: str, head: bytes, descriptor: int, environ: Mapping[str, str], depth: int
) -> None:
    if head.startswith(b"#!"):
        _examine_script(path, head, environ, depth)
    elif elf.has_registered_format(path, head):
        return
    elif head.startswith(elf.MAGIC):
        _examine_binary(path, head, descriptor)
    else:
        what = "it is empty" if not head else "it starts neither as a binary nor with `#!`"
        raise _refuse(path, f"exec format error: {what}", _FIRST_LINE)


def _examine_binary(path: str, head: bytes, descriptor: int) -> None:
    """Raise for a binary of another machine, or without its loader."""
    foreign = elf.foreign_machine(head)
    if foreign:
        hint = "Build or pull the image for this machine: `docker build --platform …`."
        raise _refuse(path, f"exec format error: it was built for {foreign}", hint)
    loader = elf.interpreter(head, descriptor)
    if loader is None:
        return
    if not os.path.exists(loader):
        libc = "musl (Alpine)" if "musl" in loader else "glibc (Debian and most others)"
        why = f"{path!r} needs the loader {loader!r}, which does not exist: it was built for {libc}"
        raise not_found(path, why, "Build it for this image's libc, or statically.")
    if not os.access(loader, os.X_OK, effective_ids=True):
        hint = f"Make it executable in the image: `chmod a+x {quote(loader)}`."
        raise _refuse(path, f"its loader {loader!r} is not executable", hint)


def _examine_script(path: str, head: bytes, environ: Mapping[str, str], depth: int) -> None:
    """Raise for a script whose interpreter, perhaps a script too, cannot be executed."""
    line = head[2:].split(b"\n", 1)[0]
    words = [os.fsdecode(word) for word in line.strip(b" \t\0").split(None, 1)]
    if not words:
        raise _refuse(path, "exec format error: its `#!` names no interpreter", _FIRST_LINE)
    if depth >= _MAX_INTERPRETERS:
        why = f"more than {_MAX_INTERPRETERS} of its interpreters are scripts"
        raise _refuse(path, why, _FIRST_LINE)
    if line.endswith(b"\r") and not os.path.exists(os.fsdecode(line.strip(b" \t"))):
        why = f"the first line of {path!r} ends in CRLF, so its interpreter is not found"
        raise not_found(path, why, f"Save it with LF line ends: `sed -i 's/\\r$//' {quote(path)}`.")
    try:
        _examine(words[0], environ, depth + 1)
        if os.path.basename(words[0]) == "env" and len(words) > 1 and words[1][0].isalnum():
            _examine_env(words[1], environ, depth)
    except CommandNotFoundError as error:
        why = f"the interpreter of {path!r} is missing: {error.message[:-1]}"
        raise not_found(path, why, "Install it, or correct the script's first line.") from error
    except NotExecutableError as error:
        why = f"its interpreter {error.message[:-1]}"
        hint = _FIRST_LINE if error.hint == CHECK_COMMAND else error.hint
        raise _refuse(path, why, hint) from error


def _examine_env(words: str, environ: Mapping[str, str], depth: int) -> None:
    """Search for what `env` would search for, as in `#!/usr/bin/env python3`."""
    name = words.strip()
    if "=" not in name and "/" not in name:
        _search(name, environ, depth + 1)


def _forbidden(path: str, found: os.stat_result) -> NotExecutableError:
    mode = stat.S_IMODE(found.st_mode)
    user, owner = User(os.geteuid(), os.getegid()), User(found.st_uid, found.st_gid)
    why = f"{user} has no permission (mode {mode:04o}, owner {owner})"
    hint = f"Make it executable in the image: `chmod a+x {quote(path)}`."
    with contextlib.suppress(OSError):
        if mode & 0o111 and os.statvfs(path).f_flag & os.ST_NOEXEC:
            why, hint = "its file system is mounted `noexec`", "Mount it without `noexec`."
    return _refuse(path, why, hint)


def _refuse(path: str, why: str, hint: str = "") -> NotExecutableError:
    return NotExecutableError(f"{path!r} cannot be executed: {why}.", hint=hint or CHECK_COMMAND)


def not_found(command: str, why: str, hint: str = "") -> CommandNotFoundError:
    """Return the error for a command that does not exist."""
    msg = f"The command {command!r} was not found: {why}."
    return CommandNotFoundError(msg, hint=hint or "Check the command and PATH of the image.")
