"""Bugs planted in what is looked at before a run: each is found by a database applied twice, or lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.launching import run
from tests.faults.planted import Bug
from tests.support.files import make_database, rows, tables, write_migrations
from tests.support.processes import PACKAGES

ITEMS = "CREATE TABLE items (price); INSERT INTO items VALUES (12);"
CENTS = {"002_cents.sql": "UPDATE items SET price = price * 100;\n"}


@dataclass(frozen=True, slots=True)
class Believed:
    """
    A planted bug, and the volume on which it shows.

    Args:
        bug: The bug.
        files: The migrations.
        schema: What makes the database; none where it is empty.
        harmed: Whether what should have been refused was done.
    """

    bug: Bug
    files: Mapping[str, str]
    schema: str
    harmed: Callable[[Path], bool]


def _bug(name: str, file: str, old: str, new: str) -> Bug:
    return Bug(name, file, old, new, "", (), ())


def _twice(database: Path) -> bool:
    return rows(database, "SELECT price FROM items") != [(12,)]


BUGS = (
    Believed(
        _bug(
            "only listed tools are a history",
            "migrator/formats/foreign.py",
            "        found = _by_shape(conn, name) or _in_settings(conn, name)\n",
            "        found = None\n",
        ),
        CENTS,
        ITEMS
        + "CREATE TABLE acme_schema_log (step, at); INSERT INTO acme_schema_log VALUES (2, 1);",
        _twice,
    ),
    Believed(
        _bug(
            "user_version is not looked at",
            "migrator/formats/foreign.py",
            '    noted = conn.execute("PRAGMA user_version").fetchone()[0] if names else 0\n',
            "    noted = 0\n",
        ),
        CENTS,
        ITEMS + "PRAGMA user_version = 2;",
        _twice,
    ),
    Believed(
        _bug(
            "a history of ours under another name is not looked for",
            "migrator/formats/foreign.py",
            "        if ours is not None and _has_rows(conn, name):\n",
            "        if name in ():\n",
        ),
        CENTS,
        ITEMS + "CREATE TABLE applied (version TEXT PRIMARY KEY, name TEXT NOT NULL,"
        " applied_at TIMESTAMP); INSERT INTO applied VALUES ('002', 'cents', 1);",
        _twice,
    ),
    Believed(
        _bug(
            "a lower mark is a comment",
            "migrator/inspect/texts.py",
            "    refuse_marks(chosen)\n",
            "",
        ),
        {"002_tags.sql": "CREATE TABLE tags (x);\n-- [down]\nDROP TABLE items;\n"},
        ITEMS,
        lambda database: "items" not in tables(database),
    ),
    Believed(
        _bug(
            "what is not read is passed over",
            "migrator/parsing/directory.py",
            "    if others:\n",
            "    if False:\n",
        ),
        {
            "001_first.sql": "CREATE TABLE first (x);\n",
            "V0002.More.up.sql": "CREATE TABLE more (x);\n",
        },
        "",
        lambda database: database.exists() and "more" not in tables(database),
    ),
    Believed(
        _bug(
            "half of a pair is a migration",
            "migrator/parsing/directory.py",
            "        if named is None or is_half(item.name):\n",
            "        if named is None:\n",
        ),
        {"002_items.rollback.sql": "DROP TABLE items;\n"},
        ITEMS,
        lambda database: "items" not in tables(database),
    ),
)


def _play(believed: Believed, base: Path, packages: Path) -> tuple[int, bool]:
    """Return how a run on the volume ended, and whether it did what should have been refused."""
    database = base / "volume" / "app.db"
    database.parent.mkdir(parents=True)
    if believed.schema:
        make_database(database, believed.schema)
    files = write_migrations(base / "migrations", believed.files)
    words = ["migrator", "up", "--database", str(database), "--migrations", str(files)]
    done = run([*words, "--log-format", "json"], {}, packages)
    return done.code, believed.harmed(database)


@pytest.mark.parametrize("believed", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(tmp_path, believed):
    """Refused without the bug, with nothing done; with it the harm is seen."""
    assert (78, False) == _play(believed, tmp_path / "sound", PACKAGES)
    planted = believed.bug.plant(tmp_path / "planted")
    assert (0, True) == _play(believed, tmp_path / "broken", planted)


def test_a_planted_bug_of_the_advice_is_found(tmp_path):
    """An undo script's name proposed as an upgrade's is seen in the message."""
    bug = _bug(
        "an undo script is told to be an upgrade",
        "migrator/parsing/unread_files.py",
        "        return True\n    words",
        "        return False\n    words",
    )
    write_migrations(tmp_path / "files", {"U1__drop.sql": "DROP TABLE items;\n"})
    words = ["migrator", "up", "--database", str(tmp_path / "app.db"), "--log-format", "json"]
    words += ["--migrations", str(tmp_path / "files")]
    assert "'_U1__drop.sql'" in run(words, {}, PACKAGES).stderr
    broken = bug.plant(tmp_path / "planted")
    path = broken / "migrator/parsing/unread_files.py"
    text = path.read_text()
    assert text.count('        if kind == "U":\n') == 1
    path.write_text(text.replace('        if kind == "U":\n', "        if False:\n"))
    assert "'1_drop.sql'" in run(words, {}, broken).stderr
