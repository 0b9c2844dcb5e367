"""Runs of the two commands and of a program with the API, each in a process group of its own, until all of that has ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.faults.registry_scenes import REGISTRY
from tests.faults.shim import Shim
from tests.support.forking import Zygote
from tests.support.logs import Event, parse_line
from tests.support.processes import PACKAGES, clean_environment, without_coverage
from tests.support.waiting import until

HUNG = 60.0
"""Seconds after which a run counts as hung; the program's own waits are set to far less."""
_WAITS = ("--wait-timeout", "2", "--lock-timeout", "2", "--mount", "ignore")
_TOOK = re.compile(r'"seconds": [0-9.e+-]+')
_INLINE = Path(__file__).with_name("inline.py")


class HungError(Exception):
    """A run that did not end."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended: its exit code (negative for a signal) and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def last(self) -> Event | None:
        """The last line of the run's log but for `app.…`, None where there is none."""
        last = None
        for line in self.stderr.splitlines():
            _validate(_TOOK.sub('"seconds": 0', line))
            event = json.loads(line)
            if not event["event"].startswith("app."):
                last = event
        return last


@cache
def _validate(line: str) -> None:
    """Hold a line against the schema, once: runs under the shim say the same but for how long."""
    parse_line(line)


def arguments(command: Sequence[str], database: Path, migrations: Path) -> list[str]:
    """Return what is run for a scene's command, a module or a script, and its arguments."""
    if command[0] == "inline":
        return [str(_INLINE), str(database), str(migrations), *command[1:]]
    registry = migrations / REGISTRY
    source = registry if registry.exists() else migrations
    waits = _WAITS if command[0] == "entrypoint" else _WAITS[:4]
    where = ("--database", str(database), "--migrations", str(source), "--log-format", "json")
    return [command[0], *where, *waits, *command[1:]]


def interpreted(words: Sequence[str]) -> list[str]:
    """Return the command line that runs what `arguments` returns."""
    how = ("-P",) if words[0].endswith(".py") else ("-m",)
    return [sys.executable, *how, *words]


def run(words: Sequence[str], env: Mapping[str, str], packages: Path = PACKAGES) -> Done:
    """Run what `arguments` returns in a process of its own from the start."""
    process = subprocess.Popen(
        interpreted(words),
        env=_environment(env, packages),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=HUNG)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise HungError(err) from None
    _wait_for_end(process.pid)
    return Done(process.returncode, out, err)


def _environment(env: Mapping[str, str], packages: Path) -> dict[str, str]:
    environment = without_coverage(clean_environment(dict(env)))
    if packages != PACKAGES:
        environment["PYTHONPATH"] = str(packages)
    return environment


class Launcher:
    """
    Starts runs under a shim, by forking a process that has imported the packages.

    Args:
        env: What the runs find in their environment.
        packages: Where the two packages lie.
    """

    def __init__(self, env: Mapping[str, str], packages: Path = PACKAGES) -> None:
        self._zygote = Zygote(_environment(env, packages))

    def run(self, words: Sequence[str]) -> Done:
        """Run what `arguments` returns to its end."""
        try:
            forked = self._zygote.run(words, timeout=HUNG)
        except subprocess.TimeoutExpired as error:
            raise HungError((error.stderr or b"").decode()) from None
        _wait_for_end(forked.pid)
        return Done(forked.code, forked.stdout, forked.stderr)

    def close(self) -> None:
        """End the process that is forked."""
        self._zygote.close()


@dataclass(frozen=True, slots=True)
class UnderFaults:
    """A launcher and the shim that its runs are under."""

    shim: Shim
    launcher: Launcher


@cache
def under_faults(library: Path, packages: Path) -> UnderFaults:
    """Return the launcher of these packages, made once in a process; it ends with it."""
    control = library.with_name(f"control-{os.getpid()}-{len(_made)}")
    shim = Shim(library, control)
    _made.append(UnderFaults(shim, Launcher(shim.env, packages)))
    return _made[-1]


_made: list[UnderFaults] = []


def close_launchers() -> None:
    """End the processes that were forked for runs."""
    under_faults.cache_clear()
    while _made:
        _made.pop().launcher.close()


def _wait_for_end(group: int) -> None:
    until(lambda: not _alive(group), f"The group {group} still lives.")


def _alive(group: int) -> bool:
    """Tell whether a process of the group is left, zombies that nobody reaps aside."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(stat[2]) == group and stat[0] not in "ZX":
                    return True
    return False
