"""`migrator completion`: each shell itself completes what was typed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from migrator.commands.table import COMMANDS
from migrator.options.table import ENGINE_OPTIONS
from tests.support.machine import tool
from tests.support.processes import run_migrator

TYPED = {
    "migrator st": {"status"},
    "migrator status --j": {"--json"},
    "migrator status --metrics app.d": {"app.db"},
    "migrator down --y": {"--yes"},
    "migrator restore la": {"latest"},
    "migrator restore --ab": {"--abandon"},
    "migrator --verify ": {"quick", "full"},
    "migrator up --in-use a": {"allow"},
    "migrator --database app.d": {"app.db"},
    "migrator completion z": {"zsh"},
}


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return the file that a shell reads, in a directory with a database."""
    (tmp_path / "app.db").touch()
    path = tmp_path / "completion"
    path.write_text(printed(request.param))
    return path


def printed(shell: str) -> str:
    """Return what the command prints for a shell."""
    result = run_migrator("completion", shell, check_log=False)
    assert (result.code, result.stderr) == (0, "")
    return result.stdout


def run(*command: str, cwd: Path) -> str:
    """Run a shell and return what it printed."""
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize("typed", TYPED)
def test_bash(script: Path, typed: str) -> None:
    """Bash calls the function with the words, and takes what it leaves in COMPREPLY."""
    code = (
        'source ./completion; IFS=" " read -ra COMP_WORDS <<<"$1"; [[ $1 == *" " ]] &&'
        ' COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _migrator;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = run(tool("bash"), "-c", code, "bash", typed, cwd=script.parent)
    assert set(found.split()) == TYPED[typed]


@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize("typed", TYPED)
def test_fish(script: Path, typed: str) -> None:
    """Fish says what it would offer."""
    code = f"source ./completion; complete -C'{typed}'"
    found = run(tool("fish"), "--no-config", "-c", code, cwd=script.parent)
    assert {line.partition("\t")[0] for line in found.splitlines()} == TYPED[typed]


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
@pytest.mark.parametrize("typed", [each for each, words in TYPED.items() if len(words) == 1])
def test_zsh(script: Path, typed: str) -> None:
    """Zsh has a terminal, and completes the line at a tab."""
    (word,) = TYPED[typed]
    parent = Terminal([tool("zsh"), "-f", "-i"], script.parent)
    try:
        parent.send("PS1='> '; autoload -U compinit && compinit -u -D && source ./completion\n")
        parent.send("echo rea''dy\n")
        parent.wait_for("ready")
        parent.send(f"{typed}\t")
        parent.wait_for(f"{typed.rpartition(' ')[0]} {word}")
    finally:
        parent.close()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        own, other = pty.openpty()
        env = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(cwd)}
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._terminal = own
        self.seen = ""

    def send(self, text: str) -> None:
        """Type a text."""
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text is there."""
        end = time.monotonic() + 30
        while text not in self.seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self._terminal, 4096).decode(errors="replace")

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_it(shell: str) -> None:
    """They come from the tables that the parser reads."""
    text = printed(shell)
    for command in COMMANDS:
        assert command.name in text
    own = [option for command in COMMANDS for option in command.options]
    for option in (*ENGINE_OPTIONS, *own):
        assert option.flag.removeprefix("--") in text


def test_another_shell_is_refused() -> None:
    """64, with the shells that there are."""
    result = run_migrator("completion", "bsh")
    assert (result.code, result.stdout) == (64, "")
    assert "expected bash, zsh or fish" in result.finished["error"]
    assert result.finished["hint"] == "Did you mean bash?"
