"""`down` and `restore` ask on a terminal, and nowhere else."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.files import history, make_database, tables, write_migrations
from tests.support.processes import clean_environment, command, run_migrator

FILES = {
    name: f"-- migrate:up\nCREATE TABLE {table} (x);\n-- migrate:down\nDROP TABLE {table};\n"
    for name, table in (("001_one.sql", "one"), ("002_two.sql", "two"))
}


@pytest.fixture
def options(tmp_path: Path) -> tuple[str | Path, ...]:
    """Return the options of a database with two migrations, each applied by a run of its own."""
    database = make_database(tmp_path / "data" / "app.db", "CREATE TABLE users (id);")
    files = write_migrations(tmp_path / "m", {"001_one.sql": FILES["001_one.sql"]})
    given = ("--database", database, "--migrations", files)
    assert run_migrator("up", *given).code == 0
    write_migrations(files, FILES)
    assert run_migrator("up", *given).code == 0
    return given


class Asked:
    """A command with a terminal as its standard input and error."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.shown = ""

    def question(self) -> str:
        """Wait for the question, and return the line that it stands on."""
        return self._read("[y/N] ").splitlines()[-1]

    def _read(self, end: str | None) -> str:
        while end is None or end not in self.shown:
            try:
                data = os.read(self.terminal, 4096)
            except OSError:  # Linux's end of a terminal that nobody has open any more
                data = b""
            if not data:
                break
            self.shown += data.decode()
        return self.shown

    def answer(self, text: str) -> None:
        """Type something."""
        os.write(self.terminal, text.encode())

    def end(self) -> dict[str, object]:
        """Wait for the command's end, and return its last event."""
        self._read(None)
        self.process.wait(timeout=60)
        lines = [line for line in self.shown.splitlines() if line.startswith("{")]
        found: dict[str, object] = json.loads(lines[-1])
        return found


@contextmanager
def asked(*words: str | Path) -> Iterator[Asked]:
    """Run a command of `migrator` on a terminal."""
    own, theirs = pty.openpty()
    process = subprocess.Popen(
        command("migrator", (*words, "--log-format", "json")),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=clean_environment(),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        with process:
            try:
                yield Asked(process, own)
            finally:
                process.kill()
    finally:
        os.close(own)


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_yes_undoes_what_the_question_named(options, answer):
    """The question names the migrations and the database."""
    with asked("down", "--to", "001", *options) as run:
        question = run.question()
        run.answer(answer)
        end = run.end()
    assert "Undo 002 on " in question
    assert str(options[1]) in question
    assert (end["outcome"], history(options[1])) == ("migrated", ["001"])


@pytest.mark.parametrize("answer", ["n\n", "\n", "yes please\n", "\x04"])
@pytest.mark.parametrize("words", [("down",), ("restore", "latest")])
def test_any_other_answer_is_64_and_nothing_is_done(options, words, answer):
    """Also the end of the input; what is applied stays, and a later command is not in the way."""
    with asked(*words, *options) as run:
        run.question()
        run.answer(answer)
        end = run.end()
    assert (end["exit_code"], end["reason"]) == (64, "usage.not_confirmed")
    assert end["outcome"] == "refused"
    assert history(options[1]) == ["001", "002"]
    assert {"one", "two"} <= tables(options[1])
    assert run_migrator("check", *options).code == 0


def test_the_backup_that_was_named_is_restored(options):
    """`latest` is the one that was the newest when the question was read."""
    newest = json.loads(run_migrator("backups", "--json", *options).stdout)[0]
    with asked("restore", "latest", *options) as run:
        question = run.question()
        # Another one is made meanwhile, which `latest` means from then on.
        assert run_migrator("down", *options).code == 0
        run.answer("y\n")
        end = run.end()
    assert newest["name"] in question
    assert "version 001" in question
    assert (end["outcome"], history(options[1])) == ("migrated", ["001"])


def test_what_another_run_changed_meanwhile_is_not_undone(options):
    """Who agreed to undo 002 has not agreed to undo 001."""
    with asked("down", *options) as run:
        assert "Undo 002 on " in run.question()
        assert run_migrator("down", *options).code == 0
        run.answer("y\n")
        end = run.end()
    assert (end["exit_code"], end["reason"]) == (75, "lock.changed_meanwhile")
    assert history(options[1]) == ["001"]


@pytest.mark.parametrize("words", [("down",), ("restore", "latest")])
def test_yes_beforehand_is_not_asked(options, words):
    """For a script on a terminal."""
    with asked(*words, "--yes", *options) as run:
        end = run.end()
    assert "[y/N]" not in run.shown
    assert end["outcome"] == "migrated"
    assert history(options[1]) == ["001"]


@pytest.mark.parametrize("words", [("down",), ("restore", "latest")])
def test_without_a_terminal_nobody_is_asked(options, words):
    """A Job and a timer cannot answer."""
    result = run_migrator(*words, *options)
    assert (result.code, history(options[1])) == (0, ["001"])
    assert "[y/N]" not in result.stderr


def test_a_signal_ends_the_question(options):
    """128+n, with nothing begun."""
    with asked("down", *options) as run:
        run.question()
        run.process.send_signal(signal.SIGINT)
        end = run.end()
    assert (end["exit_code"], end["outcome"]) == (130, "refused")
    assert history(options[1]) == ["001", "002"]


def test_what_cannot_be_done_is_refused_unasked(options):
    """A backup that is not there, and a version that is not applied."""
    for words in (("restore", "no-such"), ("down", "--to", "777")):
        with asked(*words, *options) as run:
            end = run.end()
        assert end["exit_code"] == 64
        assert "[y/N]" not in run.shown
