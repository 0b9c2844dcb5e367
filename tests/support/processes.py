"""The two commands as real processes, in an environment that says nothing to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import migrator.errors
from tests.support import logs
from tests.support.forking import fits, zygote
from tests.support.logs import Event
from tests.support.waiting import until

LOOKING = frozenset({"status", "plan", "check", "backups", "verify", "new"})
"""Commands of `migrator` that are no run, and need not end with `run.finished`."""

PACKAGES = Path(migrator.errors.__file__).parents[1]
"""Where the two packages under test lie: the checkout, or the installed wheel's place."""

Arg = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """
    What a process left behind.

    `events` are the run's own lines, `app_stderr` is what was written to stderr
    after them, by the program that the entrypoint had become.
    """

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float
    events: list[Event] = field(default_factory=list)
    app_stderr: str = ""

    @property
    def finished(self) -> Event:
        """The one `run.finished`."""
        return logs.finished(self.events)

    @property
    def names(self) -> list[str]:
        """The names of the events in their order."""
        return [event["event"] for event in self.events]

    def named(self, name: str) -> list[Event]:
        """Return the events of that name, in order."""
        return logs.named(self.events, name)

    def one(self, name: str) -> Event:
        """Return the only event of that name."""
        (event,) = self.named(name)
        return event


def clean_environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """
    Return this process's environment without anything that the commands read.

    Args:
        extra: Variables on top; one that is None is taken away.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MIGRATOR_") and name not in {"PUID", "PGID"}
    }
    if "site-packages" not in PACKAGES.parts:
        env["PYTHONPATH"] = str(PACKAGES)
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def without_coverage(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what starts the measuring of coverage in a child."""
    return {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}


def command(module: str, args: Sequence[Arg]) -> list[str]:
    """Return the argument list that runs one of the two packages."""
    return [sys.executable, "-m", module, *(os.fspath(arg) for arg in args)]


def run_entrypoint(
    *args: Arg,
    env: Mapping[str, str | None] | None = None,
    cwd: Arg | None = None,
    stdin: str | None = None,
    timeout: float = 60,
    prefix: Sequence[Arg] = (),
    check_log: bool = True,
) -> Result:
    """
    Run `entrypoint ARGS…` to its end and check what it logged.

    Args:
        args: The command line.
        env: Variables on top of the clean environment; None takes one away.
        cwd: The working directory.
        stdin: Text for standard input; none by default.
        timeout: Seconds after which the test fails.
        prefix: A command to run it under (`("unshare", "--pid", "--fork")`).
        check_log: Whether stderr is JSON lines ending as the contract says;
            False for `--log-format console` and for `--help`.
    """
    result = _run("entrypoint", args, env, cwd, stdin, timeout, prefix, check_log)
    if check_log and result.code >= 0 and not _asks_for_help(args):
        _check_end(result)
    return result


def run_migrator(
    *args: Arg,
    env: Mapping[str, str | None] | None = None,
    cwd: Arg | None = None,
    stdin: str | None = None,
    timeout: float = 60,
    prefix: Sequence[Arg] = (),
    check_log: bool = True,
) -> Result:
    """Run `migrator ARGS…` to its end; the arguments are those of `run_entrypoint`."""
    result = _run("migrator", args, env, cwd, stdin, timeout, prefix, check_log)
    looks = not LOOKING.isdisjoint(os.fspath(arg) for arg in args)
    if check_log and result.code >= 0 and not _asks_for_help(args):
        if looks:
            assert result.names.count("run.finished") <= 1, result.names
        else:
            _check_end(result)
    return result


def _asks_for_help(args: Sequence[Arg]) -> bool:
    return not {"--help", "-h", "--version"}.isdisjoint(os.fspath(arg) for arg in args)


def _check_end(result: Result) -> None:
    end = result.finished
    if "app.exec" not in result.names:
        assert end["exit_code"] == result.code, (end, result.code)


def _run(
    module: str,
    args: Sequence[Arg],
    env: Mapping[str, str | None] | None,
    cwd: Arg | None,
    stdin: str | None,
    timeout: float,
    prefix: Sequence[Arg],
    check_log: bool,
) -> Result:
    began = time.monotonic()
    words, environment = command(module, args), clean_environment(env)
    if not prefix and stdin is None and _may_be_forked(words[2:], environment):
        directory = os.fspath(cwd) if cwd is not None else os.getcwd()
        own = zygote(clean_environment())
        forked = own.run(words[2:], env=environment, cwd=directory, timeout=timeout)
        return _result(words, forked.code, forked.stdout, forked.stderr, began, check_log)
    done = subprocess.run(
        [*prefix, *words],
        env=environment,
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return _result(done.args, done.returncode, done.stdout, done.stderr, began, check_log)


_INTERPRETERS = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "COVERAGE_", "MALLOC_")
"""Beginnings of variables that count when Python starts, and not for one that is forked."""


FORKED: ContextVar[bool] = ContextVar("FORKED", default=True)
"""Whether runs may be forked from a process that has imported the packages."""


def _may_be_forked(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """
    Say whether a run can be forked from a process that has imported the packages.

    Not one that the interpreter's own variables are set for: they count when it starts.
    Nor where a module's tests are about the start itself (`from_the_start`).
    """
    if not FORKED.get() or any(name.startswith("COVERAGE_") for name in env):
        return False
    usual = clean_environment()
    names = {name for name in {*usual, *env} if name.startswith(_INTERPRETERS)}
    return all(usual.get(name) == env.get(name) for name in names) and fits([words, env])


def _result(
    args: Sequence[Arg], code: int, stdout: str, stderr: str, began: float, check_log: bool
) -> Result:
    events, rest = logs.split(stderr) if check_log else ([], stderr)
    return Result(
        args=tuple(os.fspath(arg) for arg in args),
        code=code,
        stdout=stdout,
        stderr=stderr,
        seconds=time.monotonic() - began,
        events=events,
        app_stderr=rest,
    )


class Running:
    """
    One of the two commands under way, its output going to files.

    Files and not pipes, so that a process that is never read from cannot
    stall, and one that is killed has left all that it said.
    """

    def __init__(
        self, module: str, args: Sequence[Arg], process: subprocess.Popen[str], out: Path, err: Path
    ) -> None:
        self.module = module
        self.args = tuple(os.fspath(arg) for arg in args)
        self.process = process
        self._out = out
        self._err = err
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """The process's id; the worker is its child, the application has the same."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What has come out of stdout so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What has come out of stderr so far."""
        return self._err.read_text()

    @property
    def events(self) -> list[Event]:
        """The run's events so far; a line that is still being written is left out."""
        text = self.stderr
        return logs.split(text[: text.rfind("\n") + 1])[0]

    def wait_for(self, name: str, timeout: float = 20) -> Event:
        """Wait until an event of that name is logged and return the first one."""
        return until(
            lambda: next(iter(logs.named(self.events, name)), None),
            f"{name} was not logged:\n{{0}}",
            timeout,
            lambda: (self.stderr,),
        )

    def wait_for_stdout(self, text: str, timeout: float = 20) -> str:
        """Wait until the text stands in stdout and return all of it."""
        return until(
            lambda: self.stdout if text in self.stdout else None,
            f"{text!r} did not come out of stdout:\n{{0}}\n{{1}}",
            timeout,
            lambda: (self.stdout, self.stderr),
        )

    def children(self) -> list[int]:
        """Return the ids of the process's children, the worker first."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def finish(self, timeout: float = 60, *, check_log: bool = True) -> Result:
        """Wait for the end and return what was left behind."""
        code = self.process.wait(timeout)
        result = _result(
            command(self.module, self.args), code, self.stdout, self.stderr, self._began, check_log
        )
        if check_log and code >= 0:
            _check_end(result)
        return result

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10) -> Result:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.finish(timeout)


@contextmanager
def running(
    module: str,
    *args: Arg,
    directory: Path,
    env: Mapping[str, str | None] | None = None,
    cwd: Arg | None = None,
    prefix: Sequence[Arg] = (),
) -> Iterator[Running]:
    """
    Start `entrypoint` or `migrator` and kill what is left of it in the end.

    Args:
        module: `entrypoint` or `migrator`.
        args: The command line.
        directory: Where the files for its output go.
        env: Variables on top of the clean environment; None takes one away.
        cwd: The working directory.
        prefix: A command to run it under.
    """
    stem = f"{module}-{time.monotonic_ns()}"
    out, err = directory / f"{stem}.out", directory / f"{stem}.err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [*prefix, *command(module, args)],
            env=clean_environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    try:
        yield Running(module, args, process, out, err)
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that is still there, and collect it."""
    if process.poll() is None:
        process.kill()
    process.wait(10)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def run_script(
    text: str,
    *args: object,
    cwd: Path | None = None,
    env: dict[str, str | None] | None = None,
    prefix: Sequence[str | Path] = (),
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own and return what it printed."""
    return subprocess.run(
        [*prefix, sys.executable, "-W", "error", "-c", dedent(text), *map(str, args)],
        env=without_coverage(clean_environment(env)),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
