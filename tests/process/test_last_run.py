"""What the last run did, or why it failed: noted at its end, and said by `status`."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from migrator import MigrationRunner
from migrator.errors import MigrationFailedError
from tests.support.files import history, listing, make_database, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

TAGS = {"001_tags.sql": "CREATE TABLE tags (x);"}
BAD = {"002_bad.sql": "INSERT INTO nowhere VALUES (1);"}


NOTE = (
    '{"command": "up", "run_id": "x", "outcome": "migrated", "finished_at": "", "exit_code": 80,'
    ' "applied": 0}'
)


class Place:
    """A database, its migrations, and what lies beside them."""

    def __init__(self, root: Path) -> None:
        self.database = make_database(root / "data" / "app.db", "CREATE TABLE users (id);")
        self.migrations = write_migrations(root / "m", TAGS)
        self.note = root / "data" / "app.db.migrator" / "last_run.json"
        self.options = ("--database", self.database, "--migrations", self.migrations)

    def call(self, *words: str) -> Result:
        """Run a command of `migrator`."""
        return run_migrator(*words, *self.options)

    def last_run(self) -> dict[str, Any] | None:
        """Return what `status --json` says of the last run."""
        found: dict[str, Any] | None = json.loads(self.call("status", "--json").stdout)["last_run"]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a database with one migration pending."""
    return Place(tmp_path)


def test_a_run_that_did_something_is_said(place: Place) -> None:
    """Command, id, outcome and time are those of its own last line; before it there is none."""
    assert place.last_run() is None
    assert "Last run" not in place.call("status").stdout
    done = place.call("up")
    found = place.last_run()
    assert found is not None
    assert found.pop("finished_at") == done.finished["timestamp"][:19] + "Z"
    assert found == {
        "command": "up",
        "run_id": done.finished["run_id"],
        "outcome": "migrated",
        "exit_code": 0,
        "applied": 1,
        "reason": None,
        "error": None,
        "hint": None,
    }
    line = next(each for each in place.call("status").stdout.splitlines() if "Last run" in each)
    assert line.startswith("Last run: up, ")
    assert line.endswith(" UTC: migrated.")


def test_a_run_that_failed_says_why_and_what_to_do(place: Place) -> None:
    """
    The reason, the sentence and the hint are those of the log, which may be gone by then.

    But for what a container adds to a hint: where it is read, and what the previous image does.
    """
    write_migrations(place.migrations, BAD)
    end = run_entrypoint(*place.options, "--", "echo", "app").finished
    found = place.last_run()
    assert found is not None
    keys = ("run_id", "outcome", "exit_code", "applied", "reason", "error")
    assert {key: found[key] for key in keys} == {key: end[key] for key in keys}
    assert (found["command"], found["exit_code"]) == ("entrypoint", 80)
    text = place.call("status").stdout
    assert f"failed_restored, exit code 80 (migration.failed). {end['error']}" in text
    assert end["hint"].startswith(found["hint"])
    assert f"Hint: {found['hint']}" in text
    (place.migrations / "002_bad.sql").unlink()
    assert place.call("up").code == 0
    assert "Hint:" not in place.call("status").stdout


@pytest.mark.parametrize(
    ("words", "outcome"),
    [(("down",), "migrated"), (("restore", "latest"), "migrated"), (("backup",), "backed_up")],
)
def test_every_command_that_is_a_run_notes_itself(
    place: Place, words: tuple[str, ...], outcome: str
) -> None:
    """`down`, `restore` and `backup` have the lock as `up` has it."""
    write_migrations(place.migrations, {"001_tags.sql": TAGS["001_tags.sql"]})
    (place.migrations / "001_tags.sql").write_text(
        "-- migrate:up\nCREATE TABLE tags (x);\n-- migrate:down\nDROP TABLE tags;\n"
    )
    assert place.call("up").code == 0
    result = place.call(*words)
    assert result.code == 0, result.stderr
    found = place.last_run()
    assert found is not None
    assert (found["command"], found["outcome"]) == (words[0], outcome)


def test_the_python_api_notes_itself(place: Place) -> None:
    """Whoever migrates in their own process is found by the same `status`."""
    runner = MigrationRunner(place.database, place.migrations)
    assert runner.run_pending_migrations(verbose=False) == 1
    found = place.last_run()
    assert found is not None
    assert (found["command"], found["outcome"], found["applied"]) == ("api", "migrated", 1)
    write_migrations(place.migrations, BAD)
    with pytest.raises(MigrationFailedError):
        runner.run_pending_migrations(verbose=False)
    found = place.last_run()
    assert found is not None
    assert (found["exit_code"], found["reason"]) == (80, "migration.failed")


def test_looking_and_a_start_with_nothing_to_do_leave_it(place: Place) -> None:
    """It is written by a run at its end, and by nothing else."""
    assert place.call("up").code == 0
    before = listing(place.database.parent)
    for words in (("status",), ("plan",), ("check",)):
        assert place.call(*words).code == 0
    assert run_migrator("baseline", *place.options, check_log=False).code == 0
    assert run_entrypoint(*place.options, "--", "true").code == 0
    assert before == listing(place.database.parent)


def test_it_is_private(place: Place) -> None:
    """An error's text is a migration's author's: nobody else reads it."""
    assert place.call("up").code == 0
    assert stat.S_IMODE(place.note.stat().st_mode) == 0o600


def test_a_run_that_cannot_note_its_end_does_not_fail(place: Place) -> None:
    """Something else stands there: the run is done, and nothing unfinished is left beside it."""
    place.note.mkdir(parents=True)
    result = place.call("up")
    assert (result.code, history(place.database)) == (0, ["001"])
    assert place.last_run() is None
    assert not [path for path in place.note.parent.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"command": "up"}',
        NOTE.replace('"migrated"', "1"),
        NOTE.replace("80", "true"),
        "[" * 100_000,
        "\x00" * 70_000,
    ],
    ids=["empty", "cut", "list", "null", "little", "number", "bool", "deep", "zeros"],
)
def test_what_cannot_be_read_is_as_good_as_not_there(place: Place, text: str) -> None:
    """A power cut, or a person's hand, costs `status` nothing but that line."""
    assert place.call("up").code == 0
    place.note.write_text(text)
    assert place.last_run() is None
    assert "Last run" not in place.call("status").stdout


def test_a_link_in_its_place_is_not_followed(place: Place, tmp_path: Path) -> None:
    """Neither reading nor writing leaves our own directory."""
    assert place.call("up").code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(place.note.read_text())
    place.note.unlink()
    place.note.symlink_to(elsewhere)
    assert place.last_run() is None
    before = elsewhere.read_text()
    write_migrations(place.migrations, {"002_more.sql": "CREATE TABLE more (x);"})
    assert place.call("up").code == 0
    assert (elsewhere.read_text(), place.note.is_symlink()) == (before, False)


def test_hostile_words_in_it_are_shown_and_not_obeyed(place: Place) -> None:
    """An error repeats names that a migration's author has chosen."""
    assert place.call("up").code == 0
    facts = json.loads(place.note.read_text())
    facts |= {
        "exit_code": 80,
        "reason": "x",
        "error": "a\x1b[2Jb\nProblem: forged",
        "hint": "\u202e",
    }
    place.note.write_text(json.dumps(facts))
    text = place.call("status").stdout
    assert "\x1b" not in text
    assert "\nProblem: forged" not in text
    assert "\u202e" not in text


def test_times_are_in_one_form(place: Place) -> None:
    """Whoever has written a history or a backup, people read UTC to the second."""
    assert place.call("up").code == 0
    times = {
        "100": "2024-05-06T09:08:09.123456+02:00",
        "101": "2024-05-06T07:08:09Z",
        "102": "2024-05-06 07:08:09.5",
        "103": "yesterday",
    }
    script = "".join(
        f"INSERT INTO migrations (version, name, applied_at) VALUES ('{version}', 'x', '{time}');"
        for version, time in times.items()
    )
    make_database(place.database, script)
    text = place.call("status").stdout
    assert text.count("2024-05-06 07:08:09\n") == 3
    assert "yesterday\n" in text
    made = json.loads(place.call("backups", "--json").stdout)[0]["created_at"]
    assert made[:19].replace("T", " ") + "  " in place.call("backups").stdout
    kept = {
        row["applied_at"] for row in json.loads(place.call("status", "--json").stdout)["applied"]
    }
    assert set(times.values()) <= kept
