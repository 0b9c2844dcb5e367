"""
Find the application's command and examine it, before anything runs.

What execve(2) would refuse shows in permissions and first bytes, so that a
start that cannot end in the application does not migrate its database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from shlex import quote

from entrypoint import privileges
from entrypoint.identities import User
from entrypoint.program import elf
from migrator.errors import CommandNotFoundError, MigratorError, NotExecutableError

CHECK_COMMAND = "Check the command of the image: it has to name a file that can be executed."
_FIRST_LINE = "Give it a first line such as `#!/bin/sh`, or name the interpreter: `sh SCRIPT`."
_OPEN_THE_WAY = "Open the directories above it in the image: `chmod a+x DIRECTORY`."

_HEAD = 256
"""What the kernel reads of a program to find out what it is (BINPRM_BUF_SIZE)."""

_MOST_INTERPRETERS = 5


def resolve_command(command: str, environ: Mapping[str, str], *, user: User | None = None) -> str:
    """
    Find a command as execvp(3) does, and make sure that it can be executed.

    Args:
        command: A path with a slash, or a name to look for in PATH.
        environ: The environment whose PATH counts.
        user: Who will execute it, the current user if None.

    Returns:
        The path to execute.

    Raises:
        CommandNotFoundError: There is no such program, or no interpreter for it.
        NotExecutableError: It may not, or cannot, be executed.
    """
    if user is None:
        return _resolve(command, environ, 0)
    with privileges.acting_as(user):
        return _resolve(command, environ, 0)


def _resolve(command: str, environ: Mapping[str, str], depth: int) -> str:
    if not command:
        raise not_found(command, "an empty name was given as the command")
    if "/" in command:
        _examine(command, environ, depth)
        return command
    return _search(command, environ, depth)


def _search(command: str, environ: Mapping[str, str], depth: int) -> str:
    """Return the first program of that name in PATH that can be executed."""
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


def _examine(path: str, environ: Mapping[str, str], depth: int) -> None:
    """Raise what would go wrong in executing a file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise not_found(path, f"{path!r} does not exist") from None
    except OSError as error:
        hint = _OPEN_THE_WAY if error.errno == errno.EACCES else CHECK_COMMAND
        raise _refuse(path, f"it cannot be looked at ({error.strerror})", hint) from error
    if stat.S_ISDIR(found.st_mode):
        raise _refuse(path, "it is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "it is no regular file")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise _forbidden(path, found)
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD) or b""
            _examine_content(path, head, file.fileno(), environ, depth)
    except PermissionError:
        # It may be executed and not read: only the kernel can tell.
        return


def _examine_content(
    path: str, head: bytes, descriptor: int, environ: Mapping[str, str], depth: int
) -> None:
    if head.startswith(b"#!"):
        _examine_script(path, head, environ, depth)
    elif elf.misc_format(path, head):
        return
    elif head.startswith(elf.MAGIC):
        _examine_binary(path, head, descriptor)
    else:
        what = "it is empty" if not head else "it starts neither as a binary nor with `#!`"
        raise _refuse(path, f"exec format error: {what}", _FIRST_LINE)


def _examine_binary(path: str, head: bytes, descriptor: int) -> None:
    """Raise for a binary of another machine, or one whose loader is missing."""
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
        raise _refuse(path, f"its loader {loader!r} may not be executed", hint)


def _examine_script(path: str, head: bytes, environ: Mapping[str, str], depth: int) -> None:
    """Raise for a script whose interpreter cannot run it; interpreters may be scripts too."""
    line = head[2:].split(b"\n", 1)[0]
    words = [os.fsdecode(word) for word in line.strip(b" \t\0").split(None, 1)]
    if not words:
        raise _refuse(path, "exec format error: no interpreter stands after its `#!`", _FIRST_LINE)
    if depth >= _MOST_INTERPRETERS:
        raise _refuse(path, "its interpreters are scripts that lead nowhere", _FIRST_LINE)
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
        why = f"its interpreter cannot be: {error.message[:-1]}"
        hint = _FIRST_LINE if error.hint == CHECK_COMMAND else error.hint
        raise _refuse(path, why, hint) from error


def _examine_env(words: str, environ: Mapping[str, str], depth: int) -> None:
    """Look for what `env` would look for, in `#!/usr/bin/env python3`."""
    name = words.strip()
    if "=" not in name and "/" not in name:
        _search(name, environ, depth + 1)


def _forbidden(path: str, found: os.stat_result) -> NotExecutableError:
    mode, us = stat.S_IMODE(found.st_mode), f"{os.geteuid()}:{os.getegid()}"
    owner = f"{found.st_uid}:{found.st_gid}"
    why = f"{us} has no permission to (mode {mode:04o}, owner {owner})"
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
