"""Drizzle's directories, before 1.0 and since, and its table."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.formats.support import dump, left_alone, migrator, refused, schema, up, write
from tests.support.files import make_database, rows

TABLE = "__drizzle_migrations"
USERS = "CREATE TABLE `users` (\n\t`id` integer PRIMARY KEY NOT NULL,\n\t`name` text\n);\n"
NOTES = (
    "CREATE TABLE `notes` (\n\t`id` integer PRIMARY KEY NOT NULL,\n"
    "\t`user` integer REFERENCES `users`(`id`)\n)\n--> statement-breakpoint\n"
    "CREATE INDEX `by_user` ON `notes` (`user`);--> statement-breakpoint\n"
    "CREATE TRIGGER `noted` AFTER INSERT ON `notes` BEGIN\n"
    "\tUPDATE `notes` SET `user` = NULL WHERE 'x; y' = '';\nEND;\n"
)
REBUILT = (
    "PRAGMA foreign_keys=OFF;--> statement-breakpoint\n"
    "CREATE TABLE `__new_users` (`id` integer PRIMARY KEY NOT NULL, `name` text NOT NULL);\n"
    "--> statement-breakpoint\n"
    "INSERT INTO `__new_users` SELECT `id`, coalesce(`name`, '') FROM `users`;"
    "--> statement-breakpoint\n"
    "DROP TABLE `users`;--> statement-breakpoint\n"
    "ALTER TABLE `__new_users` RENAME TO `users`;--> statement-breakpoint\n"
    "PRAGMA foreign_keys=ON;"
)
CUSTOM = "-- Custom SQL migration file, put your code below! --\nCREATE TABLE a (x);\nCREATE TABLE b (x);\n"
TAGS = {
    "0000_wild_hulk": (1704067200123, USERS),
    "0001_calm_wasp": (1704153600456, NOTES),
    "0002_odd_jean_grey": (1704240000789, REBUILT),
    "0003_custom": (1704326400000, CUSTOM),
}
FOLDERS = {
    "20240101000000_wild_hulk": USERS,
    "20240102000000_calm_wasp": NOTES,
    "20240103000000_odd_jean_grey": REBUILT,
    "20240104000000_custom": CUSTOM,
}


def journal(*tags: str, **more: Any) -> str:
    """Return a journal of these migrations, as Drizzle Kit writes it."""
    entries = [
        {"idx": at, "version": "6", "when": TAGS[tag][0], "tag": tag, "breakpoints": True}
        for at, tag in enumerate(tags)
    ]
    return json.dumps({"version": "7", "dialect": "sqlite", "entries": entries} | more, indent=2)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory with a journal."""
    texts = {f"{tag}.sql": text for tag, (_, text) in TAGS.items()}
    snapshot = {"meta/0000_snapshot.json": "{}", "README.md": "No migration."}
    return write(tmp_path / "drizzle", texts | snapshot | {"meta/_journal.json": journal(*TAGS)})


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Return a directory of directories, as Drizzle Kit 1.0 writes it."""
    files = {f"{name}/migration.sql": text for name, text in FOLDERS.items()}
    return write(tmp_path / "folders", files | {f"{name}/snapshot.json": "{}" for name in FOLDERS})


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a database in which Drizzle has applied the first two."""
    return make_database(tmp_path / "app.db", dump("drizzle"))


def test_the_rest_is_applied_in_drizzles_table(theirs: Path, files: Path) -> None:
    """Rows have the file's hash and the journal's time, so that Drizzle finds nothing pending."""
    make_database(theirs, "INSERT INTO users VALUES (1, NULL); INSERT INTO notes VALUES (1, 1);")
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: 0002, 0003.\n")
    assert (done.one("plan.ready")["format"], done.one("plan.ready")["way"]) == (
        "drizzle",
        "in-place",
    )
    query = f"SELECT id, hash, created_at, typeof(created_at) FROM {TABLE} ORDER BY created_at"
    assert rows(theirs, query)[2:] == [
        (
            None,
            "df6df764c4c8bec19de4f0fac4b22faf34efda3088c7a9120cf02c17ed090f70",
            1704240000789,
            "integer",
        ),
        (
            None,
            "7b75b3412e423076fef578ccc7ca71610b146889d692e72a27aa7f4c9d440e74",
            1704326400000,
            "integer",
        ),
    ]
    # Drizzle asks only whether the newest time is below a migration's.
    assert rows(theirs, f"SELECT max(created_at) FROM {TABLE}") == [(TAGS["0003_custom"][0],)]
    assert rows(theirs, "SELECT * FROM notes") == [(1, 1)]
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0


def test_a_database_made_here_is_the_one_that_drizzle_makes(
    tmp_path: Path, theirs: Path, files: Path
) -> None:
    """A first install is recognised by the journal; schema and rows are Drizzle's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files).finished["outcome"] == "created"
    up(theirs, files)
    squeezed = [
        [(*row[:3], re.sub(r"\s", "", row[3] or "")) for row in schema(each)]
        for each in (ours, theirs)
    ]
    assert squeezed[0] == squeezed[1]
    query = f"SELECT id, hash, created_at FROM {TABLE} ORDER BY created_at"
    assert rows(ours, query) == rows(theirs, query)


@pytest.mark.parametrize("version", ["0001", "0001_calm_wasp"])
def test_status_and_baseline_speak_of_tags_and_their_numbers(
    tmp_path: Path, files: Path, version: str
) -> None:
    """A database without a history gets Drizzle's, with a row for each migration noted."""
    database = make_database(tmp_path / "app.db", f"{dump('drizzle')} DROP TABLE {TABLE};")
    assert migrator("baseline", database, files, version).code == 0
    status = json.loads(migrator("status", database, files, "--json").stdout)
    assert [(each["version"], each["name"]) for each in status["applied"]] == [
        ("0000", "wild_hulk"),
        ("0001", "calm_wasp"),
    ]
    assert [each["file"] for each in status["pending"]] == [
        "0002_odd_jean_grey.sql",
        "0003_custom.sql",
    ]
    assert status["format"] == "drizzle"
    assert rows(database, f"SELECT hash, created_at FROM {TABLE}") == [
        row[1:]
        for row in rows(make_database(tmp_path / "t.db", dump("drizzle")), f"SELECT * FROM {TABLE}")
    ]


def test_there_is_no_way_down_before_1_0(theirs: Path, files: Path) -> None:
    """Drizzle's files of before 1.0 do not say how they are undone."""
    before = theirs.read_bytes()
    refused(migrator("down", theirs, files), "migrations.no_down", "0001_calm_wasp.sql")
    assert theirs.read_bytes() == before


def test_line_ends_change_no_hash(theirs: Path, files: Path) -> None:
    """A checkout with other line ends is the same text."""
    path = files / "0001_calm_wasp.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert up(theirs, files).code == 0


def test_the_journals_order_counts_and_not_its_times(tmp_path: Path, files: Path) -> None:
    """After a merge an entry may be older than the one before it; all run, once."""
    entries = json.loads(journal(*TAGS))
    entries["entries"][2]["when"] = 1600000000000
    (files / "meta/_journal.json").write_text(json.dumps(entries))
    database = tmp_path / "app.db"
    assert up(database, files).stdout == "Applied: 0000, 0001, 0002, 0003.\n"
    assert up(database, files).finished["outcome"] == "up_to_date"


def test_a_migration_that_drizzle_has_passed_over_is_told(theirs: Path, files: Path) -> None:
    """Drizzle looks at the newest time only; what has no row below it is neither run nor hidden."""
    make_database(theirs, f"DELETE FROM {TABLE} WHERE created_at = 1704067200123;")
    left_alone(theirs, files, reason="history.out-of-order", told=("0000_wild_hulk.sql", "0001"))
    assert migrator("baseline", theirs, files, "0001").stdout == "Noted: 0000.\n"
    assert up(theirs, files).stdout == "Applied: 0002, 0003.\n"


def test_a_row_with_another_time_is_known_by_its_hash(theirs: Path, files: Path) -> None:
    """A journal that was written anew has other times for the same files."""
    make_database(theirs, f"UPDATE {TABLE} SET created_at = created_at + 5;")
    assert up(theirs, files).stdout == "Applied: 0002, 0003.\n"


def test_many_rows_of_a_journal_written_anew_are_found_in_one_reading(tmp_path: Path) -> None:
    """Each file is read once for its hash, however many rows have another time by now."""
    tags = [f"{at:04}_t" for at in range(1500)]
    entries = [{"idx": at, "when": at, "tag": tag} for at, tag in enumerate(tags)]
    texts = {f"{tag}.sql": f"CREATE TABLE t{at} (x);\n" for at, tag in enumerate(tags)}
    files = write(tmp_path / "m", texts | {"meta/_journal.json": json.dumps({"entries": entries})})
    database = make_database(
        tmp_path / "app.db",
        f"BEGIN; CREATE TABLE {TABLE} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at numeric);"
        + "".join(
            f"INSERT INTO {TABLE} (hash, created_at)"
            f" VALUES ('{hashlib.sha256(text.encode()).hexdigest()}', {10_000 + at});"
            for at, text in enumerate(texts.values())
        )
        + "COMMIT;",
    )
    status = json.loads(migrator("status", database, files, "--json").stdout)
    assert (len(status["applied"]), status["pending"], status["problems"]) == (1500, [], [])


def test_rows_of_one_time_are_told_apart_by_their_hashes(tmp_path: Path, files: Path) -> None:
    """Two migrations of one time have a row each, of which the hash says whose it is."""
    entries = json.loads(journal(*TAGS))
    for entry in entries["entries"]:
        entry["when"] = 1704067200123
    (files / "meta/_journal.json").write_text(json.dumps(entries))
    database = tmp_path / "app.db"
    assert up(database, files).stdout == "Applied: 0000, 0001, 0002, 0003.\n"
    made = rows(database, f"SELECT hash FROM {TABLE} ORDER BY rowid")
    make_database(
        database, f"DELETE FROM {TABLE} WHERE hash = '{made[3][0]}'; DROP TABLE a; DROP TABLE b;"
    )
    assert up(database, files).stdout == "Applied: 0003.\n"


def test_two_starts_at_once_may_have_left_a_row_twice(theirs: Path, files: Path) -> None:
    """Drizzle has no lock, and does not mind a second row."""
    make_database(theirs, f"INSERT INTO {TABLE} SELECT * FROM {TABLE};")
    assert up(theirs, files).stdout == "Applied: 0002, 0003.\n"


def test_a_file_that_the_journal_lacks_is_told(theirs: Path, files: Path) -> None:
    """Drizzle runs what the journal lists, and says nothing of the rest."""
    (files / "0004_by_hand.sql").write_text("CREATE TABLE c (x);\n")
    for outcome in ("migrated", "up_to_date"):
        done = up(theirs, files)
        assert done.finished["outcome"] == outcome
        told = done.named("migrations.ignored")
        assert {each["file"] for each in told} == {"0004_by_hand.sql"}
        assert {each["level"] for each in told} == {"warning"}
    assert rows(theirs, "SELECT count(*) FROM sqlite_master WHERE name = 'c'") == [(0,)]


# --- directories, since 1.0 ---------------------------------------------------


def test_directories_are_recognised_and_noted_by_name(tmp_path: Path, folders: Path) -> None:
    """A first install has the table of Drizzle 1.0, with names and when each was applied."""
    database = tmp_path / "app.db"
    done = up(database, folders)
    assert (done.finished["outcome"], done.one("plan.ready")["format"]) == ("created", "drizzle")
    made = rows(database, f"SELECT id, created_at, name, applied_at FROM {TABLE}")
    assert [row[:3] for row in made] == [
        (at + 1, 1704067200000 + at * 86_400_000, name) for at, name in enumerate(FOLDERS)
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row[3]) for row in made)
    query = f"SELECT name, lower(type), pk FROM pragma_table_info('{TABLE}')"
    assert rows(database, query) == [
        ("id", "integer", 1),
        ("hash", "text", 0),
        ("created_at", "numeric", 0),
        ("name", "text", 0),
        ("applied_at", "text", 0),
    ]


def test_an_older_table_gets_names_as_from_drizzle_1_0(theirs: Path, folders: Path) -> None:
    """Rows are matched by their second, and no migration runs again."""
    done = up(theirs, folders)
    assert (done.code, done.stdout) == (0, "Applied: 20240103000000, 20240104000000.\n")
    made = rows(theirs, f"SELECT name, applied_at IS NULL FROM {TABLE} ORDER BY created_at")
    assert made == [(name, int(at < 2)) for at, name in enumerate(FOLDERS)]
    assert up(theirs, folders).finished["outcome"] == "up_to_date"


def test_down_sql_undoes(tmp_path: Path, folders: Path) -> None:
    """A `down.sql` beside `migration.sql` is the way back, and the row goes."""
    write(
        folders,
        {
            "20240104000000_custom/down.sql": "DROP TABLE a;\n--> statement-breakpoint\nDROP TABLE b;\n"
        },
    )
    database = tmp_path / "app.db"
    up(database, folders)
    done = migrator("down", database, folders)
    assert (done.code, done.stdout) == (0, "Undone: 20240104000000.\n")
    assert rows(database, f"SELECT max(name) FROM {TABLE}") == [("20240103000000_odd_jean_grey",)]
    assert rows(database, "SELECT count(*) FROM sqlite_master WHERE name IN ('a', 'b')") == [(0,)]
    refused(migrator("down", database, folders), "migrations.no_down", "20240103000000")


def test_a_name_that_the_files_lack_is_newer_or_missing(tmp_path: Path, folders: Path) -> None:
    """Since 1.0 the name says where a migration belongs."""
    database = tmp_path / "app.db"
    up(database, folders)
    make_database(database, f"UPDATE {TABLE} SET name = '20250101000000_later' WHERE id = 4;")
    refused(up(database, folders), "history.newer", "20250101000000_later")
    make_database(database, f"UPDATE {TABLE} SET name = '20240101120000_gone' WHERE id = 4;")
    refused(up(database, folders), "history.missing", "20240101120000_gone")


# --- what does not fit ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ('{"entries": [', "migrations.syntax", ("_journal.json, line 1", "JSON")),
        ("[" * 100_000, "migrations.syntax", ("_journal.json",)),
        ("[]", "migrations.syntax", ("`entries`",)),
        ('{"entries": {}}', "migrations.syntax", ("`entries`",)),
        ('{"entries": [{"tag": "0000_wild_hulk"}]}', "migrations.syntax", ("entry 0", "`when`")),
        ('{"entries": [{"tag": 1, "when": 1}]}', "migrations.syntax", ("`tag`",)),
        ('{"entries": [{"tag": "0000_wild_hulk", "when": true}]}', "migrations.syntax", ("`when`",)),
        ('{"entries": [{"tag": "0000_wild_hulk", "when": 9223372036854775808}]}', "migrations.syntax", ("9223372036854775808",)),
        ('{"entries": [{"tag": "../../etc/passwd", "when": 1}]}', "migrations.syntax", ("passwd", "not a file in this directory")),
        ('{"entries": [{"tag": "/etc/passwd", "when": 1}]}', "migrations.syntax", ("passwd",)),
        ('{"entries": [{"tag": "0000_gone", "when": 1}]}', "migrations.unreadable", ("0000_gone.sql", "drizzle-kit drop")),
        (journal("0000_wild_hulk", "0000_wild_hulk"), "migrations.duplicate", ("0000_wild_hulk.sql",)),
        (journal(*TAGS, dialect="postgresql"), "migrations.other_tool", ("postgresql", "--migrations")),
    ],
)  # fmt: skip
def test_bad_journals_are_refused(
    theirs: Path, files: Path, text: str, reason: str, told: tuple[str, ...]
) -> None:
    """The journal, the entry and what to do are named, and nothing is written."""
    (files / "meta/_journal.json").write_text(text)
    left_alone(theirs, files, reason=reason, told=told)


def test_an_unreadable_journal_is_refused(theirs: Path, files: Path) -> None:
    """A journal that is a directory cannot be read."""
    (files / "meta/_journal.json").unlink()
    (files / "meta/_journal.json").mkdir()
    refused(up(theirs, files, "--format", "drizzle"), "migrations.unreadable", "_journal.json")


def test_files_without_their_journal_are_refused(theirs: Path, files: Path) -> None:
    """Without `meta` Drizzle knows neither order nor times."""
    (files / "meta/_journal.json").unlink()
    refused(up(theirs, files, "--format", "drizzle"), "migrations.unreadable", "_journal.json")


def test_both_layouts_at_once_are_refused(theirs: Path, files: Path) -> None:
    """A journal beside directories of 1.0: one of them is left over."""
    write(files, {"20240104000000_custom/migration.sql": CUSTOM})
    refused(up(theirs, files), "migrations.bad_name", "20240104000000_custom", "drizzle-kit up")


def test_a_directory_without_a_time_is_refused(tmp_path: Path, folders: Path) -> None:
    """The time at the beginning of the name is what the row notes."""
    os.rename(folders / "20240104000000_custom", folders / "custom")
    refused(up(tmp_path / "app.db", folders), "migrations.bad_name", "custom", "YYYYMMDDhhmmss")


@pytest.mark.parametrize(
    ("file", "text", "reason", "told"),
    [
        ("0001_calm_wasp.sql", NOTES.replace("by_user", "of_user"), "history.changed", ("0001_calm_wasp.sql",)),
        ("0003_custom.sql", "CREATE TABLE a (x\n--> statement-breakpoint\n);", "migrations.syntax", ("0003_custom.sql, line 1",)),
        ("0003_custom.sql", "\nSELECT 1;\n--> statement-breakpoint\nBEGIN;", "migrations.transaction", ("0003_custom.sql, line 4",)),
        ("0003_custom.sql", "\xff", "migrations.encoding", ()),
    ],
)  # fmt: skip
def test_bad_files_are_refused_when_they_are_read(
    theirs: Path, files: Path, file: str, text: str, reason: str, told: tuple[str, ...]
) -> None:
    """File, line and what to do are named, and nothing is written."""
    (files / file).write_bytes(text.encode("latin-1"))
    left_alone(theirs, files, reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        (f"INSERT INTO {TABLE} VALUES (NULL, 'x', 1800000000000);", "history.newer", "1800000000000"),
        (f"INSERT INTO {TABLE} VALUES (NULL, 'x', 1704100000000);", "history.missing", "1704100000000"),
        (f"INSERT INTO {TABLE} VALUES (NULL, 'x', 'soon');", "history.broken", "'soon'"),
        (f"INSERT INTO {TABLE} VALUES (NULL, 'x', NULL);", "history.broken", "None"),
        (f"INSERT INTO {TABLE} VALUES (NULL, 'x', 9e999);", "history.broken", "inf"),
        (f"ALTER TABLE {TABLE} DROP COLUMN hash;", "history.not_ours", "created_at"),
        (f"ALTER TABLE {TABLE} ADD COLUMN extra;", "history.not_ours", "extra"),
    ],
)  # fmt: skip
def test_histories_that_do_not_fit_are_refused(
    theirs: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing, rows and tables that Drizzle never made: 78, and nothing is written."""
    make_database(theirs, script)
    left_alone(theirs, files, "--format", "drizzle", reason=reason, told=told)


def test_a_failure_leaves_drizzles_table_as_it_was(theirs: Path, files: Path) -> None:
    """What the run had applied is undone with its rows, and is pending still."""
    (files / "0003_custom.sql").write_text("CREATE TABLE a (x);\n--> statement-breakpoint\nOOPS;\n")
    before = rows(theirs, f"SELECT * FROM {TABLE}"), schema(theirs)
    done = up(theirs, files)
    assert (done.code, done.finished["outcome"]) == (80, "failed_restored")
    assert (done.finished["file"], done.finished["line"]) == ("0003_custom.sql", 3)
    assert (rows(theirs, f"SELECT * FROM {TABLE}"), schema(theirs)) == before
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert [each["version"] for each in status["pending"]] == ["0002", "0003"]


def test_a_file_that_ends_drizzles_transaction_runs(theirs: Path, files: Path) -> None:
    """The two statements that Drizzle puts around all migrations are there."""
    mark = "--> statement-breakpoint\n"
    text = f"COMMIT;{mark}VACUUM;{mark}BEGIN;{mark}CREATE TABLE a (x);"
    (files / "0003_custom.sql").write_text(text)
    assert up(theirs, files).stdout == "Applied: 0002, 0003.\n"
    assert "a" in {row[1] for row in schema(theirs)}
