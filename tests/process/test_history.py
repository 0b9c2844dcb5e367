"""Files on one side, history on the other: every misfit is found before anything runs."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, listing, make_database, rows, tables, write_migrations
from tests.support.machine import tool
from tests.support.processes import Result, run_entrypoint, run_migrator

FILES = {
    f"00{number}_{name}.sql": f"CREATE TABLE {name} (id INTEGER PRIMARY KEY);\n"
    for number, name in ((2, "two"), (3, "three"), (5, "five"), (6, "six"))
}
KINDS = ("newer", "missing", "changed", "out-of-order")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory with four migrations."""
    return write_migrations(tmp_path / "migrations", FILES)


@pytest.fixture
def base(volume: Path, files: Path) -> Path:
    """Return a database that the four have been applied to."""
    database = make_database(volume / "app.db", "CREATE TABLE old (id INTEGER PRIMARY KEY);")
    assert 0 == start(database, files).code
    return database


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def misfit(files: Path, kind: str) -> None:
    """Make the directory misfit the history in one way; `raise_history` is for `newer`."""
    if kind == "missing":
        (files / "002_two.sql").unlink()
    elif kind == "changed":
        (files / "003_three.sql").write_text("CREATE TABLE three (id INTEGER, other TEXT);\n")
    elif kind == "out-of-order":
        write_migrations(files, {"004_four.sql": "CREATE TABLE four (id INTEGER);"})


def pend(files: Path) -> None:
    """Add a pending migration that is below nothing."""
    write_migrations(files, {"007_seven.sql": "CREATE TABLE seven (id INTEGER);"})


def raise_history(database: Path) -> None:
    """Note a version that is above everything in the directory, as a newer image would have."""
    make_database(database, "INSERT INTO migrations (version, name) VALUES ('008', 'eight')")


@pytest.mark.parametrize("kind", KINDS)
def test_a_misfit_is_refused_before_anything_runs(base, files, volume, kind):
    """With something pending each misfit is 78, and no byte of the volume changes."""
    pend(files)
    raise_history(base) if kind == "newer" else misfit(files, kind)
    before, digest = listing(volume), logical_digest(base)
    result = start(base, files)
    assert (78, f"history.{kind}", "refused") == (
        result.code,
        result.finished["reason"],
        result.finished["outcome"],
    )
    assert result.finished["hint"]
    assert [] == result.named("migration.started")
    assert digest == logical_digest(base)
    if kind != "changed":
        assert before == listing(volume)


@pytest.mark.parametrize("kind", KINDS)
def test_a_misfit_is_foretold(base, files, volume, kind):
    """`plan` and `check` refuse it as a start does."""
    pend(files)
    raise_history(base) if kind == "newer" else misfit(files, kind)
    before = listing(volume)
    for command in ("plan", "check"):
        result = run_migrator(command, "--database", base, "--migrations", files)
        assert (78, f"history.{kind}") == (result.code, result.finished["reason"])
    assert before == listing(volume)


@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_with_nothing_pending_a_plan_refuses_only_what_a_start_refuses(base, files, kind):
    """`plan` and `check` exit 0 then, as `up` does; a missing file is a warning in each."""
    misfit(files, kind)
    for command in ("plan", "check", "up"):
        result = run_migrator(command, "--database", base, "--migrations", files)
        warned = [event["kind"] for event in result.named("history.misfit")]
        assert (0, ["missing"] if kind == "missing" else []) == (result.code, warned), command


@pytest.mark.parametrize("kind", KINDS)
def test_an_accepted_misfit_is_a_warning(base, files, kind):
    """`--accept KIND` goes on, says so, and applies what is pending."""
    pend(files)
    raise_history(base) if kind == "newer" else misfit(files, kind)
    # What is pending lies below the newer one, which is a misfit of its own.
    accept = kind if kind != "newer" else "newer,out-of-order"
    result = start(base, files, "--accept", accept)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert kind in {event["kind"] for event in result.named("history.misfit")}
    assert {"warning"} == {event["level"] for event in result.named("history.misfit")}
    assert "007" in history(base)
    assert "seven" in tables(base)


def all_four(base: Path, files: Path) -> None:
    """Make all four misfits at once."""
    pend(files)
    for kind in ("missing", "changed", "out-of-order"):
        misfit(files, kind)
    raise_history(base)


@pytest.mark.parametrize("accepted", range(4))
def test_of_several_misfits_the_first_decides_and_all_are_listed(base, files, accepted):
    """Newer, missing, changed, out-of-order: that is the order; what is accepted does not count."""
    all_four(base, files)
    before = logical_digest(base)
    accept = ("--accept", ",".join(KINDS[:accepted])) if accepted else ()
    result = start(base, files, *accept)
    assert (78, f"history.{KINDS[accepted]}") == (result.code, result.finished["reason"])
    listed = {problem["kind"] for problem in result.finished["problems"]}
    assert set(KINDS[accepted:]) == listed
    texts = {
        "newer": "008_eight",
        "missing": "002_two",
        "changed": "003_three.sql",
        "out-of-order": "004_four.sql",
    }
    for kind in KINDS[accepted:]:
        assert texts[kind] in result.finished["error"]
    assert before == logical_digest(base)


def test_all_misfits_can_be_accepted_together(base, files):
    """With all four accepted, what is pending runs, in order."""
    all_four(base, files)
    result = start(base, files, "--accept", ",".join(KINDS))
    assert 0 == result.code
    assert ["004", "007"] == [event["version"] for event in result.named("migration.finished")]
    assert set(KINDS) == {event["kind"] for event in result.named("history.misfit")}


@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_with_nothing_pending_only_newer_is_refused(base, files, volume, kind):
    """A missing file is a warning then, and a changed one is not even looked for."""
    misfit(files, kind)
    before = listing(volume)
    result = start(base, files)
    assert (0, "app\n", "up_to_date") == (result.code, result.stdout, result.finished["outcome"])
    expected = ["missing"] if kind == "missing" else []
    assert expected == [event["kind"] for event in result.named("history.misfit")]
    assert before == listing(volume)


def test_with_nothing_pending_newer_is_refused(base, files, volume):
    """A rolled-back image must not start on a database that it does not know."""
    raise_history(base)
    before = listing(volume)
    result = start(base, files)
    assert (78, "history.newer") == (result.code, result.finished["reason"])
    assert before == listing(volume)
    accepted = start(base, files, "--accept", "newer")
    assert (0, "app\n") == (accepted.code, accepted.stdout)


def test_newer_names_both_sides_and_the_command_that_leads_back(base, files, tmp_path):
    """The message has both versions, and the hint a restore that works where it is read."""
    before = logical_digest(base)
    newer = tmp_path / "newer"
    shutil.copytree(files, newer)
    write_migrations(
        newer,
        {"007_seven.sql": "CREATE TABLE seven (id);", "008_eight.py": "def up(conn): pass\n"},
    )
    assert 0 == start(base, newer).code
    result = start(base, files)
    assert 78 == result.code
    error, hint = result.finished["error"], result.finished["hint"]
    assert "008_eight" in error
    assert "006" in error
    line = hint.split("`")[1]
    words = shlex.split(line)
    assert ["migrator", "restore"] == words[:2]
    assert (base.parent / "backups" / words[2]).is_file()
    restored = run_migrator(*words[1:])
    assert 0 == restored.code
    assert before == logical_digest(base)
    assert 0 == start(base, files).code


def test_the_command_that_leads_back_skips_backups_that_are_newer_themselves(base, files, tmp_path):
    """Of several backups the newest one that this image knows completely is named."""
    newer = tmp_path / "newer"
    shutil.copytree(files, newer)
    for number in (7, 8, 9):
        write_migrations(newer, {f"00{number}_x{number}.sql": f"CREATE TABLE x{number} (id);"})
        assert 0 == start(base, newer).code
    result = start(base, files)
    words = shlex.split(result.finished["hint"].split("`")[1])
    assert 0 == run_migrator(*words[1:]).code
    assert ["002", "003", "005", "006"] == history(base)


def test_line_ends_are_no_change(base, files):
    """Checksums are over LF-normalised text, so that a checkout with CRLF fits."""
    for path in files.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    pend(files)
    result = start(base, files)
    assert 0 == result.code, result.stderr
    assert [] == result.named("history.misfit")
    assert "007" in history(base)


def test_a_space_is_a_change(base, files):
    """Anything but line ends counts, also in a comment."""
    pend(files)
    path = files / "005_five.sql"
    path.write_text(path.read_text() + "-- a remark\n")
    result = start(base, files)
    assert (78, "history.changed") == (result.code, result.finished["reason"])
    assert "005_five.sql" in result.finished["error"]


def test_a_row_without_checksum_is_never_changed(base, files):
    """What a seed framework or a baseline of old has noted has no text to compare with."""
    make_database(base, "UPDATE migrations SET checksum = NULL")
    misfit(files, "changed")
    pend(files)
    assert 0 == start(base, files).code


def test_a_renamed_file_of_the_same_version_is_the_same_migration(base, files):
    """The version is the identity of a file's migration, not its words."""
    (files / "005_five.sql").rename(files / "005_cinq.sql")
    pend(files)
    result = start(base, files)
    assert 0 == result.code
    assert ["007"] == [event["version"] for event in result.named("migration.finished")]


def test_other_spellings_of_a_version_are_the_same_one(base, files):
    """`5` and `005` are one version, and the history keeps the spelling that it has."""
    (files / "005_five.sql").rename(files / "5_five.sql")
    pend(files)
    result = start(base, files)
    assert 0 == result.code
    assert ["002", "003", "005", "006", "007"] == history(base)


def test_a_version_that_is_there_in_two_spellings_holds_nothing_up(base, files):
    """The framework before told `5` from `005`: both rows stay, and runs go on."""
    make_database(base, "INSERT INTO migrations (version, name) VALUES ('5', 'five')")
    pend(files)
    result = start(base, files)
    assert 0 == result.code, result.stderr
    assert ["002", "003", "005", "006", "007", "5"] == sorted(history(base))


def test_versions_are_stored_as_the_file_name_spells_them(base):
    """`version` and `name` are what the framework before would have written."""
    assert [("002", "two"), ("003", "three"), ("005", "five"), ("006", "six")] == rows(
        base, "SELECT version, name FROM migrations"
    )


def test_versions_count_by_value(volume, tmp_path):
    """Numbers are ordered by value and dotted versions part by part."""
    names = ["1.2_b.sql", "1.10_c.sql", "1_a.sql", "2_d.sql", "10_e.sql"]
    files = write_migrations(
        tmp_path / "m", {name: f"CREATE TABLE {name[-5]} (id);" for name in names}
    )
    result = start(volume / "app.db", files)
    assert 0 == result.code
    assert ["1", "1.2", "1.10", "2", "10"] == [
        event["version"] for event in result.named("migration.finished")
    ]


def test_texts_are_not_opened_with_nothing_pending(base, files, tmp_path):
    """A start with nothing pending lists names and opens no migration."""
    trace = tmp_path / "trace"
    result = run_entrypoint(
        "--database",
        base,
        "--migrations",
        files,
        "--",
        "echo",
        "app",
        prefix=(tool("strace"), "-f", "-e", "trace=openat,open", "-o", trace),
    )
    assert (0, "app\n") == (result.code, result.stdout)
    lines = [line for line in trace.read_text().splitlines() if str(files) in line]
    assert lines
    assert not [line for line in lines if ".sql" in line or ".py" in line]


def test_a_database_with_everything_lost_but_the_history_is_only_looked_at(base, files, volume):
    """The history says what is applied; nobody compares the schema with the files."""
    make_database(base, "DROP TABLE five")
    before = listing(volume)
    assert 0 == start(base, files).code
    assert before == listing(volume)


def test_an_empty_directory_of_migrations_makes_every_row_newer(base, files, volume):
    """An image that has lost its migrations does not start on a migrated database."""
    for path in files.iterdir():
        path.unlink()
    before = listing(volume)
    result = start(base, files)
    assert (78, "history.newer") == (result.code, result.finished["reason"])
    assert before == listing(volume)


def test_two_files_of_one_version_are_refused(base, files, volume):
    """`7` and `007` are one version: 78, naming both files, before anything runs."""
    write_migrations(files, {"7_a.sql": "SELECT 1;", "007_b.sql": "SELECT 1;"})
    before = listing(volume)
    result = start(base, files)
    assert 78 == result.code
    assert "7_a.sql" in result.finished["error"]
    assert "007_b.sql" in result.finished["error"]
    assert before == listing(volume)


@pytest.mark.parametrize("command", ["up", "check", "plan"])
def test_an_applied_migration_without_a_file_meets_a_requirement(base, files, command):
    """What is accepted as missing has been applied all the same."""
    misfit(files, "missing")
    text = 'requires = ["2"]\n\ndef up(conn):\n    conn.execute("CREATE TABLE eight (id)")\n'
    write_migrations(files, {"008_eight.py": text})
    where = ("--database", base, "--migrations", files)
    result = run_migrator(command, *where, "--accept", "missing")
    assert result.code == (1 if command == "check" else 0), result.stderr
    assert ("008" in history(base)) is (command == "up")


def many(directory: Path, numbers: range, text: str = "CREATE TABLE t{0} (id INTEGER);\n") -> Path:
    """Write so many migrations."""
    return write_migrations(directory, {f"{n:03d}_t.sql": text.format(n) for n in numbers})


def test_newer_is_one_sentence_with_both_ways_back(tmp_path: Path) -> None:
    """However many are newer, the line is short, and each command of the hint works."""
    database = tmp_path / "data" / "app.db"
    database.parent.mkdir()
    old = many(tmp_path / "old", range(1, 4))
    new = tmp_path / "new"
    shutil.copytree(old, new)
    down = "-- migrate:up\nCREATE TABLE t{0} (id INTEGER);\n-- migrate:down\nDROP TABLE t{0};\n"
    many(new, range(4, 301), down)
    assert start(database, old).code == 0
    make_database(database, "INSERT INTO t1 VALUES (1)")
    assert start(database, new).code == 0
    make_database(database, "INSERT INTO t1 VALUES (2)")

    result = start(database, old)
    assert result.code == 78
    end = result.finished
    assert end["error"] == (
        "The database is newer than this image: it has 004_t to 300_t,"
        " and the highest migration here is 003."
    )
    assert max(len(line) for line in result.stderr.splitlines()) < 16 << 10
    back, to = commands(end["hint"])
    assert to[:4] == ["migrator", "down", "--to", "003"]
    assert run_migrator(*to[1:4], "--database", database, "--migrations", new).code == 0
    assert start(database, old).code == 0
    assert rows(database, "SELECT id FROM t1") == [(1,), (2,)]

    assert start(database, new).code == 0
    assert back[:2] == ["migrator", "restore"]
    assert run_migrator(*back[1:]).code == 0
    assert start(database, old).code == 0
    assert rows(database, "SELECT id FROM t1") == [(1,)]


def commands(hint: str) -> list[list[str]]:
    """Return the commands that a hint has between backticks."""
    return [shlex.split(each) for each in hint.split("`")[1::2]]


@pytest.mark.parametrize("kind", ["missing", "changed", "out-of-order"])
def test_many_misfits_of_a_kind_are_one_sentence(kind: str, tmp_path: Path) -> None:
    """The first ones by name, and how many more; each version is in `status --json`."""
    database = tmp_path / "data" / "app.db"
    database.parent.mkdir()
    applied = range(1, 9) if kind != "out-of-order" else range(8, 9)
    files = many(tmp_path / "m", applied)
    assert start(database, files).code == 0
    if kind == "missing":
        for number in range(1, 8):
            (files / f"{number:03d}_t.sql").unlink()
    elif kind == "changed":
        many(files, range(1, 8), "CREATE TABLE t{0} (id INTEGER, more TEXT);\n")
    else:
        many(files, range(1, 8))
    write_migrations(files, {"009_pending.sql": "SELECT 1;\n"})

    end = start(database, files).finished
    assert end["reason"] == f"history.{kind}"
    assert "005_t" in end["error"]
    assert " and 2 more " in end["error"]
    assert "006_t" not in end["error"]
    assert [each["version"] for each in end["problems"]] == [f"{n:03d}" for n in range(1, 8)]
    accepted = start(database, files, "--accept", kind)
    assert accepted.code == 0
    assert accepted.one("history.misfit")["message"] == end["error"]
