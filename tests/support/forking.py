"""Runs that are forked from a process which has imported the packages: a third of the cost of a start."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.zygote import SPACE

ZYGOTE = Path(__file__).with_name("zygote.py")
_LARGEST = 100_000
"""Bytes that a run may be told: its words and its environment."""


@dataclass(frozen=True, slots=True)
class Forked:
    """How a run ended: its process group, its exit code (negative for a signal), what it wrote."""

    pid: int
    code: int
    stdout: str
    stderr: str


class Zygote:
    """
    A process that has imported the packages, and is forked for each run.

    Args:
        env: What it finds in its environment, and its runs where they are told nothing else.
        python: The interpreter.
        modules: What it has imported; the packages if none is named.
    """

    def __init__(
        self, env: Mapping[str, str], python: str = sys.executable, modules: Sequence[str] = ()
    ) -> None:
        self.env = dict(env)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [python, str(ZYGOTE), str(theirs.fileno()), *modules],
            env={**self.env, SPACE: "x" * _LARGEST},
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()

    def run(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: int | None = None,
        timeout: float = 60,
    ) -> Forked:
        """
        Run a module (`migrator`) or a script with its arguments to its end.

        Args:
            words: The module or the path of the script, and the arguments.
            env: The whole environment; that of the zygote if None.
            cwd: The working directory.
            stdin: A descriptor of its standard input; nothing to read if None.
            timeout: Seconds after which it is killed.

        Raises:
            subprocess.TimeoutExpired: It had not ended by then, and was killed.
        """
        umask = os.umask(0)
        os.umask(umask)
        request = {"words": list(words), "cwd": cwd, "umask": umask, "env": env and dict(env)}
        pipes = [os.pipe(), os.pipe()]
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            given = [null if stdin is None else stdin, *(write for _, write in pipes)]
            socket.send_fds(self._channel, [json.dumps(request).encode()], given)
        finally:
            os.close(null)
            for _, write in pipes:
                os.close(write)
        pid = int(self._channel.recv(32))
        try:
            out, err = _read([read for read, _ in pipes], pid, words, timeout)
        finally:
            code = int(self._channel.recv(32))
            for read, _ in pipes:
                os.close(read)
        return Forked(pid, code, out.decode(), err.decode())

    def close(self) -> None:
        """End the process that is forked."""
        self._channel.close()
        self._process.wait(10)


def fits(request: object) -> bool:
    """Say whether there is space for what a run is to be told."""
    return len(json.dumps(request)) < _LARGEST


def _read(
    pipes: Sequence[int], group: int, words: Sequence[str], timeout: float
) -> tuple[bytes, bytes]:
    """Read both streams until nobody has them open; a run that takes too long is killed."""
    texts = {pipe: bytearray() for pipe in pipes}
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
                out, err = (bytes(texts[pipe]) for pipe in pipes)
                raise subprocess.TimeoutExpired(list(words), timeout, out, err)
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                texts[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return bytes(texts[pipes[0]]), bytes(texts[pipes[1]])


_mine = threading.local()


def zygote(env: Mapping[str, str], modules: Sequence[str] = ()) -> Zygote:
    """Return this thread's zygote with these modules, made anew in a process that was forked since."""
    mine: dict[str, Zygote] = vars(_mine)
    pid = os.getpid()
    key = str((pid, *modules))
    if key not in mine:
        made = mine[key] = Zygote(env, modules=modules)
        atexit.register(lambda: made.close() if os.getpid() == pid else None)
    return mine[key]
