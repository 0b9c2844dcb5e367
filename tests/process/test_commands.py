"""The commands of `migrator`: what they do, print and return."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.digest import logical_digest
from tests.support.files import (
    BY_VERSION,
    history,
    listing,
    make_database,
    opened,
    rows,
    tables,
    until_there,
    write_migrations,
)
from tests.support.others import leave_hot_journal
from tests.support.processes import (
    Result,
    clean_environment,
    command,
    run_entrypoint,
    run_migrator,
    running,
)

LOOKING = ("status", "plan", "check", "backups", "verify")


@pytest.fixture
def call(database: Path, migrations: Path):
    """Return a function that runs a command on the database."""

    def run(*words: str, **options: Any) -> Result:
        return run_migrator(*words, "--database", database, "--migrations", migrations, **options)

    return run


def loaded(result: Result) -> Any:
    """Return the JSON on stdout, and nothing else may be there."""
    return json.loads(result.stdout)


# --- up ----------------------------------------------------------------------------


def test_up_is_the_run_without_exec(call, database):
    """It applies what is pending, says so on stdout, and has its log on stderr."""
    result = call("up")
    assert 0 == result.code
    assert ["001", "002"] == history(database)
    assert "001" in result.stdout
    assert "{" not in result.stdout
    assert ("migrated", 2) == (result.finished["outcome"], result.finished["applied"])
    again = call("up")
    assert (0, "up_to_date") == (again.code, again.finished["outcome"])
    assert again.stdout


def test_up_creates_a_database(volume, tmp_path):
    """A first install works by the command as by the entrypoint."""
    files = write_migrations(tmp_path / "m", {"001_a.sql": "CREATE TABLE a (id INTEGER);"})
    result = run_migrator("up", "--database", volume / "new.db", "--migrations", files)
    assert (0, "created") == (result.code, result.finished["outcome"])
    assert {"a", "migrations"} == tables(volume / "new.db")


def test_a_failed_up_says_nothing_on_stdout(call, database, migrations):
    """Results go to stdout, and a failure is none; all is as before and pending."""
    write_migrations(migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);"})
    before = logical_digest(database)
    result = call("up")
    assert (80, "") == (result.code, result.stdout)
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)
    assert ["001", "002", "003"] == [
        each["version"] for each in loaded(call("status", "--json"))["pending"]
    ]


def into(
    stdout: int, *words: str | Path, program: str = "migrator"
) -> subprocess.CompletedProcess[str]:
    """Run a command with its stdout led to a descriptor."""
    return subprocess.run(
        command(program, words),
        env=clean_environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.fixture
def full() -> Iterator[int]:
    """Return a descriptor on a disk that is always full."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def test_a_run_is_done_where_its_sentence_cannot_be_written(full, database, migrations):
    """It has said its end by then: one `run.finished`, and the code of that."""
    done = into(full, "up", "--database", database, "--migrations", migrations)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    ends = [event["outcome"] for event in events if event["event"] == "run.finished"]
    assert (0, ["migrated"]) == (done.returncode, ends)
    assert ["001", "002"] == history(database)


@pytest.mark.parametrize("name", ["status", "plan", "backups"])
def test_a_result_that_cannot_be_written_is_74(full, database, migrations, name):
    """Nobody would know it otherwise; it is no bug of this program."""
    done = into(full, name, "--database", database, "--migrations", migrations)
    end = json.loads(done.stderr)
    assert (74, "refused", "disk.full") == (done.returncode, end["outcome"], end["reason"])


@pytest.mark.parametrize("program", ["migrator", "entrypoint"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_help_that_cannot_be_written_is_74(full, program, flag):
    """So it is for a text that has nothing to do with any database."""
    done = into(full, flag, program=program)
    end = json.loads(done.stderr)
    assert (74, "refused", "disk.full") == (done.returncode, end["outcome"], end["reason"])


def test_the_code_of_a_check_is_its_own_where_nobody_reads(database, migrations):
    """The reader of stdout may have gone: what is pending is 1 all the same."""
    reader, writer = os.pipe()
    os.close(reader)
    done = into(writer, "check", "--database", database, "--migrations", migrations)
    os.close(writer)
    assert (1, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_stdout_cannot_encode_is_written_all_the_same(migrations, tmp_path, encoding):
    """What the image sets for its own Python (`PYTHONIOENCODING`) makes no name a bug."""
    database = tmp_path / os.fsdecode(b"na\xffme.db")
    env = {"PYTHONIOENCODING": encoding}
    result = run_migrator("status", "--database", database, "--migrations", migrations, env=env)
    assert (0, "") == (result.code, result.stderr)
    assert r"na\udcffme.db" in result.stdout


# --- options -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "after", "variables", "equals"])
def test_options_stand_before_and_after_the_command(database, migrations, place):
    """Flags work on both sides, with `=` and without, and so do the variables."""
    flags = ["--database", str(database), "--migrations", str(migrations)]
    env: dict[str, str | None] = {}
    words = {
        "before": [*flags, "status", "--json"],
        "after": ["status", "--json", *flags],
        "equals": [f"{flags[0]}={flags[1]}", "status", f"{flags[2]}={flags[3]}", "--json"],
        "variables": ["status", "--json"],
    }[place]
    if place == "variables":
        env = {"MIGRATOR_DATABASE": flags[1], "MIGRATOR_MIGRATIONS": flags[3]}
    result = run_migrator(*words, env=env)
    assert (0, str(database)) == (result.code, loaded(result)["database"])


def test_options_about_the_container_are_ignored_as_variables(call):
    """The image's own settings must not be in the way of a command in it."""
    env = {
        "MIGRATOR_MOUNT": "require",
        "MIGRATOR_RUN_AS": "12345",
        "PUID": "1",
        "PGID": "1",
        "MIGRATOR_MIGRATE": "skip",
    }
    result = call("status", env=env)
    assert (0, "") == (result.code, result.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ("stats",),
        ("status", "extra"),
        ("down", "--to", "1", "--steps", "1"),
        ("down", "--steps", "0"),
        ("down", "--steps", "one"),
        ("restore",),
        ("baseline", "--force"),
        ("baseline", "001", "--json"),
        ("restore", "latest", "--before", "1"),
        ("status", "--sql"),
        ("status", "--verfy", "full"),
        ("new",),
        ("up", "--row-guard", "no"),
        ("up", "--accept", "all"),
        ("up", "--verify="),
    ],
)
def test_a_wrong_command_line_is_64(call, volume, words):
    """It is named in the error, with what is right in the hint, and nothing is touched."""
    before = listing(volume)
    result = call(*words)
    assert (64, "") == (result.code, result.stdout)
    assert (64, "refused") == (result.finished["exit_code"], result.finished["outcome"])
    assert result.finished["hint"]
    assert before == listing(volume)


def test_a_command_without_a_database_is_64():
    """The engine has no default for it."""
    result = run_migrator("status")
    assert 64 == result.code
    assert "MIGRATOR_DATABASE" in result.stderr


# --- looking -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOKING)
def test_commands_that_look_write_nothing_and_log_nothing(call, volume, name):
    """Neither before nor after a run do they leave or say anything but their result."""
    for code in (1, 0):
        before = listing(volume)
        result = call(name)
        assert (code if name == "check" else 0, "") == (result.code, result.stderr)
        assert result.stdout.endswith("\n")
        assert before == listing(volume)
        call("up")


@pytest.mark.parametrize("name", ["status", "plan", "check", "backups"])
def test_looking_at_a_database_that_does_not_exist_creates_nothing(volume, migrations, name):
    """Not even our own directory is made."""
    result = run_migrator(name, "--database", volume / "no.db", "--migrations", migrations)
    assert (1 if name == "check" else 0) == result.code
    assert {} == listing(volume)


def test_status_as_json(call, database):
    """The keys are those of the contract, before and after a run."""
    found = loaded(call("status", "--json"))
    assert "`migrator baseline 001 " in found.pop("hint")
    assert {
        "database": str(database),
        "exists": True,
        "up_to_date": False,
        "format": "native",
        "running": None,
        "last_run": None,
        "history_read": True,
        "applied": [],
        "problems": [],
        "pending": [
            {"version": "001", "name": "add_email", "file": "001_add_email.py"},
            {"version": "002", "name": "create_tags", "file": "002_create_tags.sql"},
        ],
        "beside": [],
    } == found
    call("up")
    found = loaded(call("status", "--json"))
    assert (True, []) == (found["up_to_date"], found["pending"])
    stamps = rows(database, "SELECT version, name, applied_at FROM migrations ORDER BY version")
    assert stamps == [
        tuple(row[k] for k in ("version", "name", "applied_at")) for row in found["applied"]
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", stamp) for _, _, stamp in stamps)


def test_status_of_a_missing_database(volume, migrations):
    """`exists` and `up_to_date` are false, and everything is pending."""
    result = run_migrator(
        "status", "--json", "--database", volume / "no.db", "--migrations", migrations
    )
    found = loaded(result)
    assert (False, False, 2) == (found["exists"], found["up_to_date"], len(found["pending"]))


def test_status_shows_a_run_under_way(call, database, migrations, tmp_path):
    """`running` has id, phase and since when; `check` is 75; neither waits or writes."""
    go = tmp_path / "go"
    write_migrations(migrations, {"003_slow.py": until_there(go)})
    given = ("up", "--database", database, "--migrations", migrations)
    with running("migrator", *given, directory=tmp_path) as run:
        while (
            run.wait_for("migration.started")
            and len([e for e in run.events if e["event"] == "migration.started"]) < 3
        ):
            pass
        status = call("status", "--json")
        found = loaded(status)
        check = call("check")
        text = call("status").stdout
        planned = loaded(call("plan", "--json"))
        go.touch()
        done = run.finish()
    assert 0 == status.code
    assert {"run_id", "phase", "since"} <= set(found["running"])
    assert (done.finished["run_id"], "migrate") == (
        found["running"]["run_id"],
        found["running"]["phase"],
    )
    assert found["running"]["since"]
    assert found["running"]["run_id"] in text
    assert 75 == check.code
    assert not found["up_to_date"]
    assert found["pending"] == planned["pending"]


def test_what_is_pending_during_a_run_is_what_is_left_to_it(call, database, migrations, tmp_path):
    """What an earlier run applied is not pending for `status` or `plan` while nobody may read it."""
    call("up")
    go = tmp_path / "go"
    write_migrations(migrations, {"003_slow.py": until_there(go)})
    given = ("up", "--database", database, "--migrations", migrations)
    with running("migrator", *given, directory=tmp_path) as run:
        run.wait_for("migration.started")
        found = loaded(call("status", "--json"))
        planned = loaded(call("plan", "--json"))
        go.touch()
        run.finish()
    expected = [{"version": "003", "name": "slow", "file": "003_slow.py"}]
    assert (expected, expected) == (found["pending"], planned["pending"])


def test_status_is_not_up_to_date_where_a_start_would_be_refused(call, database):
    """A newer database is `up_to_date` only where that is accepted, as `check` has it."""
    call("up")
    make_database(database, "INSERT INTO migrations (version, name) VALUES ('009', 'nine')")
    for more, code in (((), 78), (("--accept", "newer"), 0)):
        found = loaded(call("status", "--json", *more))
        assert (code == 0, []) == (found["up_to_date"], found["pending"])
        assert ["newer"] == [problem["kind"] for problem in found["problems"]]
        assert code == call("check", *more).code


def test_status_reports_a_file_that_cannot_be_read(call, migrations):
    """What `plan` refuses is a problem for `status`, with the version and the same sentence."""
    write_migrations(migrations, {"003_open.sql": "CREATE TABLE broken (id INTEGER"})
    refused = call("plan")
    result = call("status", "--json")
    (problem,) = loaded(result)["problems"]
    assert (0, 78) == (result.code, refused.code)
    assert {
        "kind": refused.finished["reason"],
        "version": "003",
        "message": refused.finished["error"],
    } == problem


@pytest.mark.parametrize("wrong", ["missing", "duplicate"])
def test_status_has_the_history_where_the_migrations_are_wrong(call, migrations, wrong):
    """What is applied is in the database, whatever is wrong with the files."""
    call("up")
    applied = loaded(call("status", "--json"))["applied"]
    if wrong == "missing":
        migrations.rename(migrations.with_name("elsewhere"))
    else:
        write_migrations(migrations, {"1_again.sql": "SELECT 1;"})
    found = loaded(call("status", "--json"))
    assert applied == found["applied"]
    assert (True, False, []) == (found["exists"], found["up_to_date"], found["pending"])
    assert 1 == len(found["problems"])


@pytest.mark.parametrize("name", ["check", "plan", "verify"])
@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_look_at_what_is_no_file_says_what_it_is(call, database, name, kind):
    """Reason and hint are those of a start: only a directory has a file in it to be named."""
    database.unlink()
    database.mkdir() if kind == "directory" else os.mkfifo(database)
    end = call(name).finished
    assert (65, call("up").finished["reason"]) == (end["exit_code"], end["reason"])
    assert ("directory" in end["hint"]) == (kind == "directory")


def test_status_reports_problems_and_exits_0(call, database, migrations):
    """Each problem has kind, version and a sentence; the text has them too."""
    call("up")
    make_database(database, "INSERT INTO migrations (version, name) VALUES ('009', 'nine')")
    (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    write_migrations(migrations, {"003_late.sql": "SELECT 1;"})
    (migrations / "001_add_email.py").unlink()
    result = call("status", "--json")
    found = loaded(result)
    assert 0 == result.code
    assert {("newer", "009"), ("missing", "001"), ("changed", "002"), ("out-of-order", "003")} == {
        (problem["kind"], problem["version"]) for problem in found["problems"]
    }
    text = call("status").stdout
    assert all(problem["message"] in text for problem in found["problems"])


def test_tables_for_people_are_aligned(call):
    """Each column begins where its heading does."""
    call("up")
    for name in ("status", "backups"):
        lines = call(name).stdout.splitlines()
        head = next(line for line in lines if re.search(r"[A-Z]{4,}\s", line))
        starts = [match.start() for match in re.finditer(r"\S+", head)]
        body = lines[lines.index(head) + 1 :]
        body = body[: body.index("")] if "" in body else body
        assert body
        for line in body:
            assert all(start == 0 or line[start - 1] == " " for start in starts), lines
            assert line == line.rstrip()


def test_plan_as_json(call, database):
    """Way, what is pending, the database's size and the space that is needed."""
    found = loaded(call("plan", "--json"))
    assert "in-place" == found["way"]
    assert ["001", "002"] == [each["version"] for each in found["pending"]]
    assert {"version", "name", "file"} <= set(found["pending"][0])
    assert database.stat().st_size == found["database_bytes"]
    assert found["space_needed_bytes"] > found["database_bytes"]


def test_plan_says_what_is_free_and_where_backups_go(call, database, volume):
    """Free bytes are the file system's; the backups' directory stands in text and JSON."""
    found = loaded(call("plan", "--json"))
    there = os.statvfs(volume)
    assert 0 < found["space_free_bytes"] <= there.f_frsize * there.f_blocks
    assert found["backup_dir"] == str(database.parent / "backups")
    assert f"Backups: {database.parent / 'backups'}." in call("plan").stdout
    assert "free: " in call("plan").stdout


def test_plan_says_what_a_rebuild_may_take(call, database, migrations):
    """Twice the database at most, where a table is written anew; nothing where none is."""
    for path in migrations.iterdir():
        path.unlink()
    write_migrations(migrations, {"001_a.sql": "CREATE TABLE a (x);\nINSERT INTO a VALUES (1);"})
    assert loaded(call("plan", "--json"))["space_rewrite_bytes"] == 0
    write_migrations(migrations, {"002_b.sql": "CREATE TABLE b AS SELECT 1;\nUPDATE a SET x = 2;"})
    found = loaded(call("plan", "--json"))
    assert found["space_rewrite_bytes"] == 2 * found["database_bytes"]
    assert "rebuilt" in call("plan").stdout


def test_plan_says_whether_the_database_is_open_elsewhere(call, database):
    """A process that has it open, even idle, holds the run up: `plan` says so before."""
    assert loaded(call("plan", "--json"))["in_use"] is False
    code = f"import sqlite3, sys; c = sqlite3.connect({str(database)!r}); c.execute('SELECT 1 FROM"
    code += " sqlite_master').fetchall(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        assert loaded(call("plan", "--json"))["in_use"] is True
        assert "is open in another process" in call("plan").stdout
        other.stdin.close()
    assert loaded(call("plan", "--json"))["in_use"] is False


def test_plan_shows_the_statements(call):
    """`--sql` has the text of each statement as written; of Python only that it is code."""
    shown = call("plan", "--sql").stdout
    assert "-- 001_add_email.py\n-- (code" in shown
    assert "-- 002_create_tags.sql\nCREATE TABLE tags" in shown
    first, second = loaded(call("plan", "--sql", "--json"))["statements"]
    assert (first["version"], first["sql"]) == ("001", None)
    assert second["file"] == "002_create_tags.sql"
    assert second["sql"][0].startswith("CREATE TABLE tags")
    assert "statements" not in loaded(call("plan", "--json"))


def test_the_plan_counts_the_pages_that_only_the_wal_has(call, database):
    """A backup holds them as well, so they take space."""
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchall()
        conn.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        conn.execute("CREATE TABLE filler AS SELECT zeroblob(1000000) AS data")
        ((pages, size),) = conn.execute("SELECT * FROM pragma_page_count, pragma_page_size")
        found = loaded(call("plan", "--json"))
        assert database.stat().st_size < 1_000_000 < pages * size == found["database_bytes"]
        assert found["space_needed_bytes"] > found["database_bytes"]
    call("up")
    found = loaded(call("plan", "--json"))
    assert (None, []) == (found["way"], found["pending"])


def test_plan_says_when_a_copy_is_needed(call, migrations):
    """A migration outside a transaction makes the way `copy`, which needs more space."""
    before = loaded(call("plan", "--json"))
    write_migrations(migrations, {"003_v.sql": "-- migrate:up transaction:false\nVACUUM;"})
    found = loaded(call("plan", "--json"))
    assert "copy" == found["way"]
    assert found["space_needed_bytes"] > before["space_needed_bytes"]
    assert "copy" in call("plan").stdout


def test_plan_and_check_refuse_what_up_would_refuse(call, volume, migrations):
    """Files that do not parse and misfits have their code without a run."""
    write_migrations(migrations, {"003_open.sql": "CREATE TABLE broken (id INTEGER"})
    before = listing(volume)
    assert 78 == call("plan").code
    (migrations / "003_open.sql").rename(migrations / "003-open.sql")
    assert (78, 78) == (call("plan").code, call("check").code)
    assert before == listing(volume)


@pytest.mark.parametrize(
    ("arrange", "code"),
    [("pending", 1), ("done", 0), ("missing", 1), ("never", 69), ("text", 65), ("newer", 78)],
)
def test_check_is_for_health_checks(call, database, migrations, arrange, code):
    """0, 1, or the code of what is wrong."""
    more: tuple[str, ...] = ()
    if arrange in ("done", "newer"):
        call("up")
    if arrange == "newer":
        make_database(database, "INSERT INTO migrations (version, name) VALUES ('9', 'nine')")
    if arrange in ("missing", "never"):
        database.unlink()
        more = ("--create", arrange) if arrange == "never" else ()
    if arrange == "text":
        database.write_text("This is no database at all, whatever its name says.\n" * 100)
    assert code == call("check", *more).code


# --- down --------------------------------------------------------------------------


def test_down_undoes_the_last(call, database):
    """Without options it is one step; the database is backed up and its history shorter."""
    call("up")
    result = call("down")
    assert (0, "migrated") == (result.code, result.finished["outcome"])
    assert "002" in result.stdout
    assert ["001"] == history(database)
    assert "tags" not in tables(database)
    assert ["down", "up"] == [each["reason"] for each in loaded(call("backups", "--json"))]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("--to", "001"), ["001"]),
        (("--to", "1"), ["001"]),
        (("--to", "002"), ["001", "002"]),
        (("--steps", "2"), []),
        (("--steps", "9"), []),
    ],
)
def test_down_to_a_version_or_by_steps(call, database, words, left):
    """After `--to V`, V is still applied; the last one is undone first."""
    before = logical_digest(database)
    call("up")
    result = call("down", *words)
    assert 0 == result.code
    assert left == history(database)
    assert sorted(["001", "002"][len(left) :], reverse=True) == [
        event["version"] for event in result.named("migration.finished")
    ]
    if not left:
        make_database(database, "DROP TABLE migrations")
        assert before == logical_digest(database)


def test_down_to_an_unknown_version_is_64(call, database):
    """A version that is not applied cannot stay applied, and nothing is undone."""
    call("up")
    before = logical_digest(database)
    result = call("down", "--to", "009")
    assert (64, "") == (result.code, result.stdout)
    assert "009" in result.finished["error"]
    assert before == logical_digest(database)


@pytest.mark.parametrize("name", ["003_plain.py", "003_plain.sql"])
def test_down_over_a_migration_that_has_none_is_78_before_anything(
    call, database, migrations, name
):
    """The one without `down` may lie below others: none of them is undone."""
    python = name.endswith(".py")
    write_migrations(
        migrations,
        {
            name: "def up(conn): pass" if python else "CREATE TABLE three (id);",
            "004_four.sql": "-- migrate:up\nCREATE TABLE four (id);\n"
            "-- migrate:down\nDROP TABLE four;\n",
        },
    )
    call("up")
    before = logical_digest(database)
    result = call("down", "--to", "001")
    assert (78, "migrations.no_down") == (result.code, result.finished["reason"])
    assert name in result.finished["error"]
    assert "restore --before 003" in result.finished["hint"]
    assert [] == result.named("migration.started")
    assert before == logical_digest(database)
    assert 0 == call("down").code
    assert ["001", "002", "003"] == history(database)


def test_down_is_a_way_out_of_a_wrong_order(call, database, migrations):
    """A pending migration below the applied ones hinders `up`, not undoing what is above it."""
    call("up")
    write_migrations(migrations, {"001.5_late.sql": "CREATE TABLE late (id INTEGER);"})
    assert (78, ["001", "002"]) == (call("up").code, history(database))
    assert (0, ["001"]) == (call("down").code, history(database))
    assert 0 == call("up").code
    assert ["001", "001.5", "002"] == history(database)


def test_down_without_the_file_is_78(call, database, migrations):
    """What is applied and has no file here cannot be undone."""
    call("up")
    (migrations / "002_create_tags.sql").unlink()
    before = logical_digest(database)
    result = call("down")
    assert (78, "history.missing") == (result.code, result.finished["reason"])
    assert before == logical_digest(database)


def test_a_failing_down_leaves_everything_as_before(call, database, migrations):
    """Two are undone together or not at all."""
    write_migrations(
        migrations,
        {
            "003_x.py": "def up(conn): pass\n\ndef down(conn): conn.execute('DELETE FROM users')\n",
            "004_y.sql": "-- migrate:up\nSELECT 1;\n-- migrate:down\nCREATE TABLE left (id);",
        },
    )
    (migrations / "001_add_email.py").write_text(
        "def up(conn): conn.execute('ALTER TABLE users ADD COLUMN email TEXT')\n\n"
        "def down(conn): raise RuntimeError('not today')\n"
    )
    call("up")
    before = logical_digest(database)
    result = call("down", "--steps", "4")
    assert (80, "failed_restored") == (result.code, result.finished["outcome"])
    failed = result.one("migration.failed")
    assert ("001", 4) == (failed["version"], failed["line"] + 1)
    assert before == logical_digest(database)
    assert ["001", "002", "003", "004"] == history(database)


def test_a_down_section_outside_a_transaction(call, database, migrations):
    """`-- migrate:down transaction:false` takes the way over a copy."""
    write_migrations(
        migrations,
        {
            "003_v.sql": "-- migrate:up\nCREATE TABLE big AS SELECT zeroblob(100000);\n"
            "-- migrate:down transaction:false\nDROP TABLE big;\nVACUUM;\n"
        },
    )
    call("up")
    size = database.stat().st_size
    result = call("down")
    assert 0 == result.code, result.stderr
    assert "copy" == result.one("plan.ready")["way"]
    assert ["001", "002"] == history(database)
    assert database.stat().st_size < size - 90_000


def test_down_with_nothing_applied_does_nothing(call, database):
    """There is nothing to undo, which is no failure."""
    before = logical_digest(database)
    result = call("down")
    assert (0, "up_to_date") == (result.code, result.finished["outcome"])
    assert before == logical_digest(database)


def test_a_history_whose_index_is_damaged_is_not_one_with_nothing_to_undo(call, database):
    """An index that has lost its entries hides what is applied: that is damage."""
    assert 0 == call("up").code
    with opened(database) as conn:
        find = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_migrations_1'"
        page = conn.execute(find).fetchone()[0]
        size = conn.execute("PRAGMA page_size").fetchone()[0]
        conn.execute("PRAGMA journal_mode = DELETE").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size + 3)  # the number of cells, https://sqlite.org/fileformat2.html
        file.write(b"\0\0")
    before = database.read_bytes()
    result = call("down")
    assert (65, "database.damaged") == (result.code, result.finished["reason"])
    assert before == database.read_bytes()


def test_down_on_a_missing_database_is_69(volume, migrations):
    """It cannot be undone what is not there, and nothing is created."""
    result = run_migrator(
        "down", "--database", volume / "no.db", "--migrations", migrations, "--wait-timeout", "0"
    )
    assert (69, "") == (result.code, result.stdout)
    assert not (volume / "no.db").exists()


def test_up_applies_again_what_down_undid(call, database):
    """Down and up lead to the same state."""
    call("up")
    before = [rows(database, f"SELECT * FROM {name}") for name in ("users", "notes", "tags")]
    call("down", "--steps", "2")
    assert 0 == call("up").code
    assert before == [
        rows(database, f"SELECT * FROM {name}") for name in ("users", "notes", "tags")
    ]


def test_down_heeds_the_row_guard(call, database, migrations):
    """What a `down` deletes without a word is refused like any other loss."""
    write_migrations(
        migrations,
        {
            "003_t.sql": "-- migrate:up\nSELECT 1;\n-- migrate:down\n"
            "CREATE TABLE slim AS SELECT * FROM notes LIMIT 1;\nDROP TABLE notes;\n"
            "ALTER TABLE slim RENAME TO notes;\n"
        },
    )
    call("up")
    before = logical_digest(database)
    result = call("down")
    assert (81, "rows.lost") == (result.code, result.finished["reason"])
    assert before == logical_digest(database)
    assert ["001", "002", "003"] == history(database)


# --- new ---------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "suffix"), [((), ".py"), (("--sql",), ".sql")])
def test_new_prints_the_path_that_it_made(migrations, flag, suffix):
    """The next version, the words as a name; and the next one after that."""
    result = run_migrator("new", "Add phone numbers!", *flag, "--migrations", migrations)
    path = Path(result.stdout.removesuffix("\n"))
    assert (0, "") == (result.code, result.stderr)
    assert migrations / f"003_add_phone_numbers{suffix}" == path
    assert path.read_text()
    again = run_migrator("new", "more", "--migrations", migrations)
    assert "004_more.py" == Path(again.stdout.strip()).name


@pytest.mark.parametrize("source", ["app.py", "app.py:make", "gone.py:make"])
def test_new_is_not_for_a_registry(tmp_path, source):
    """A registry's migrations are in its own file: 64, and nothing is created."""
    (tmp_path / "app.py").write_text("def make(path): ...\n")
    result = run_migrator("new", "x", "--migrations", source, cwd=tmp_path)
    assert (64, "") == (result.code, result.stdout)
    assert "registry" in result.finished["error"]
    assert ["app.py"] == os.listdir(tmp_path)


@pytest.mark.parametrize("flag", ["--log-level", "--database", "--backup-keep"])
@pytest.mark.parametrize("how", ["flag", "variable"])
def test_new_reads_every_option(migrations, flag, how):
    """A bad value is 64 for `new` as well, although it needs no database."""
    before = sorted(os.listdir(migrations))
    name = "MIGRATOR_" + flag.strip("-").replace("-", "_").upper()
    words, env = ((flag, "sqlite:///x"), {}) if how == "flag" else ((), {name: "sqlite:///x"})
    result = run_migrator("new", "x", "--migrations", migrations, *words, env=env)
    assert (64, "") == (result.code, result.stdout)
    assert (flag if how == "flag" else name) in result.finished["error"]
    assert before == sorted(os.listdir(migrations))


@pytest.mark.parametrize("flag", [(), ("--sql",)], ids=[".py", ".sql"])
def test_what_nobody_has_written_yet_does_not_pass_for_done(call, database, migrations, flag):
    """What `new` has made fails, and is not noted as applied, until somebody has written it."""
    assert 0 == call("up").code
    run_migrator("new", "later", *flag, "--migrations", migrations)
    result = call("up")
    assert (80, "migration.failed") == (result.code, result.finished["reason"])
    assert "rite this migration" in result.stderr
    assert ["001", "002"] == history(database)


# --- baseline ----------------------------------------------------------------------


def test_baseline_notes_and_runs_nothing(call, database):
    """Everything up to VERSION counts as applied, and the rest is run by the next start."""
    result = call("baseline", "1")
    assert (0, "migrated") == (result.code, result.finished["outcome"])
    assert ["001"] == history(database)
    assert ["id", "name"] == [row[1] for row in rows(database, "PRAGMA table_info(users)")]
    again = call("baseline", "001")
    assert (0, "up_to_date") == (again.code, again.finished["outcome"])
    assert ["002"] == [each["version"] for each in loaded(call("status", "--json"))["pending"]]


def test_baseline_of_an_unknown_version_is_64(call, database):
    """Nothing is noted, and the versions that there are are named."""
    before = logical_digest(database)
    result = call("baseline", "007")
    assert 64 == result.code
    assert "002" in result.finished["hint"]
    assert before == logical_digest(database)


def test_baseline_keeps_the_texts(call, migrations):
    """What was taken over is compared from then on."""
    call("baseline", "001")
    text = (migrations / "001_add_email.py").read_text()
    (migrations / "001_add_email.py").write_text(text + "# changed\n")
    result = call("up")
    assert (78, "history.changed") == (result.code, result.finished["reason"])


# --- backups and restore -----------------------------------------------------------


def test_backups_as_json(call, database, migrations, volume):
    """Newest first, with the keys of the contract; each is a plain SQLite file."""
    assert [] == loaded(call("backups", "--json"))
    before = logical_digest(database)
    call("up")
    write_migrations(migrations, {"003_more.sql": "CREATE TABLE more (id INTEGER);"})
    call("up")
    found = loaded(call("backups", "--json"))
    keys = {"name", "path", "created_at", "bytes", "sha256", "version", "reason"}
    assert all(keys <= set(each) for each in found)
    assert [("002", "up"), (None, "up")] == [(each["version"], each["reason"]) for each in found]
    oldest = Path(found[1]["path"])
    assert (volume / "backups" / found[1]["name"], oldest.stat().st_size) == (
        oldest,
        found[1]["bytes"],
    )
    assert re.fullmatch(r"[0-9a-f]{64}", found[1]["sha256"])
    assert before == logical_digest(oldest)
    text = call("backups").stdout
    assert text.index(found[0]["name"]) < text.index(found[1]["name"])


@pytest.mark.parametrize("how", ["latest", "name", "stem", "path", "before"])
def test_restore_brings_the_old_state_back(call, database, how):
    """By name, path, `latest` or the version that is to be gone; what it replaces is kept."""
    before = logical_digest(database)
    call("up")
    after = logical_digest(database)
    backup = loaded(call("backups", "--json"))[0]
    words = {
        "latest": ("latest",),
        "name": (backup["name"],),
        "stem": (backup["name"].removesuffix(".db"),),
        "path": (backup["path"],),
        "before": ("--before", "001"),
    }[how]
    result = call("restore", *words)
    assert (0, "migrated") == (result.code, result.finished["outcome"])
    assert backup["name"] in result.stdout
    assert before == logical_digest(database)
    kept = loaded(call("backups", "--json"))
    assert ["restore", "up"] == [each["reason"] for each in kept]
    assert after == logical_digest(Path(kept[0]["path"]))


def test_restoring_latest_again_changes_nothing(call, database):
    """`latest` is never the backup that a restore made of what it replaced."""
    before = logical_digest(database)
    call("up")
    call("restore", "latest")
    again = call("restore", "latest")
    assert (0, "up_to_date") == (again.code, again.finished["outcome"])
    assert before == logical_digest(database)


@pytest.mark.parametrize(
    "words", [("app.db-000099-x.db",), ("--before", "099"), ("/etc/hostname",), ("latest",)]
)
def test_an_unknown_backup_is_64(call, database, words):
    """Nothing is restored that is no backup of this database."""
    if words != ("latest",):
        call("up")
    before = logical_digest(database)
    result = call("restore", *words)
    assert (64, "") == (result.code, result.stdout)
    assert before == logical_digest(database)


def test_a_damaged_backup_is_65(call, database):
    """It is held against its checksum before anything is written."""
    call("up")
    before = logical_digest(database)
    path = Path(loaded(call("backups", "--json"))[0]["path"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for command_line in (("restore", "latest"), ("verify",)):
        result = call(*command_line)
        assert (65, "backup.damaged") == (result.code, result.finished["reason"])
        assert path.name in result.finished["error"]
    assert before == logical_digest(database)


def test_a_backup_is_restored_where_there_is_no_database(call, database):
    """A lost database comes back from its backup."""
    before = logical_digest(database)
    call("up")
    database.unlink()
    result = call("restore", "latest")
    assert 0 == result.code, result.stderr
    assert before == logical_digest(database)


def test_the_migrator_is_reached_through_the_entrypoint(call, database, migrations):
    """`entrypoint … migrator restore latest` works at once, also while a start is refused."""
    before = logical_digest(database)
    call("up")
    make_database(database, "INSERT INTO migrations (version, name) VALUES ('009', 'nine')")
    flags = ("--database", database, "--migrations", migrations, "--mount", "warn")
    assert 78 == run_entrypoint(*flags, "--", "echo", "app").code
    result = run_entrypoint(*flags, "--", "migrator", "restore", "latest")
    assert 0 == result.code, result.stderr
    assert before == logical_digest(database)


# --- verify ------------------------------------------------------------------------


def test_verify_finds_foreign_keys(call, database):
    """81 names the tables, whatever is pending."""
    make_database(database, "INSERT INTO notes (user_id, text) VALUES (99, 'orphan')")
    result = call("verify")
    assert (81, "verify.foreign_keys") == (result.code, result.finished["reason"])
    assert "notes" in result.finished["error"]
    assert "users" in result.finished["error"]


def test_verify_finds_damage(call, database):
    """65 for a page that is not what the structure says."""
    make_database(
        database,
        "CREATE TABLE filler (id INTEGER PRIMARY KEY, x TEXT);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO filler (x) SELECT hex(randomblob(50)) FROM n;",
    )
    with opened(database) as conn:
        size = conn.execute("PRAGMA page_size").fetchone()[0]
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((pages - 3) * size)
        file.write(b"\x00" * 64)
    result = call("verify")
    assert (65, "database.damaged") == (result.code, result.finished["reason"])


def test_verify_finds_an_index_that_disagrees_in_full(call, database):
    """`--verify full` compares indexes with their tables, which `quick` does not."""
    make_database(database, "CREATE INDEX by_name ON users (name)")
    with opened(database) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX by_name ON users (id)'"
            " WHERE name = 'by_name'"
        )
    assert 0 == call("verify").code
    assert 65 == call("verify", "--verify", "full").code


@pytest.mark.parametrize("kind", ["changed", "missing", "newer", "out-of-order"])
def test_verify_compares_history_with_files(call, database, migrations, kind):
    """78 whatever is pending: a start with nothing pending says nothing about texts."""
    call("up")
    if kind == "changed":
        (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);")
    elif kind == "missing":
        (migrations / "001_add_email.py").unlink()
    elif kind == "out-of-order":
        write_migrations(migrations, {"001.5_late.sql": "SELECT 1;"})
    else:
        make_database(database, "INSERT INTO migrations (version, name) VALUES ('009', 'nine')")
    result = call("verify")
    assert (78, f"history.{kind}") == (result.code, result.finished["reason"])
    assert 0 == call("verify", "--accept", kind).code


def test_verify_needs_a_database(volume, migrations):
    """69 where there is none, and nothing is created."""
    result = run_migrator("verify", "--database", volume / "no.db", "--migrations", migrations)
    assert 69 == result.code
    assert {} == listing(volume)


# --- streams -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "backups", "up"])
def test_a_reader_of_stdout_that_has_gone_is_no_failure(database, migrations, name):
    """`migrator status | head -0` ends quietly; a run is done all the same."""
    args = command("migrator", [name, "--database", database, "--migrations", migrations])
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        args, stdout=write, stderr=subprocess.PIPE, env=clean_environment(), text=True, check=False
    )
    os.close(write)
    assert 0 == done.returncode
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    if name == "up":
        assert ["001", "002"] == history(database)


def test_logs_and_results_keep_to_their_streams(call):
    """Stdout has the result and stderr JSON lines, also at the most talkative level."""
    result = call("status", "--json", "--log-level", "debug")
    assert loaded(result)
    assert "" == result.stderr
    result = call("up", "--log-level", "debug")
    assert not [line for line in result.stdout.splitlines() if line.startswith("{")]
    quiet = call("down", "--log-level", "error")
    assert ["run.finished"] == quiet.names


def test_help_shows_an_example_for_each_command():
    """`--help` works everywhere, on stdout, with code 0."""
    top = run_migrator("--help")
    assert 0 == top.code
    for name in (*LOOKING, "up", "down", "new", "baseline", "restore"):
        result = run_migrator(name, "--help")
        assert (0, "") == (result.code, result.stderr)
        assert f"migrator {name}" in result.stdout
        assert name in top.stdout


def test_the_two_seed_columns_are_all_that_a_plain_program_needs(call, database):
    """The history is a plain table that any SQLite reads: how to leave."""
    call("up")
    reference = sqlite3.connect(":memory:")
    reference.execute(BY_VERSION)
    expected = reference.execute("PRAGMA table_info(migrations)").fetchall()
    actual = rows(database, "PRAGMA table_info(migrations)")
    reference.close()
    assert expected == actual[: len(expected)]


def test_status_counts_nothing_that_it_could_not_read(database, migrations):
    """A hot journal, or a file that is not a database: it says so instead of "0 applied"."""
    leave_hot_journal(database)
    for broken in (False, True):
        if broken:
            database.write_bytes(os.urandom(4096))
            Path(f"{database}-journal").unlink()
        given = ("--database", database, "--migrations", migrations)
        text = run_migrator("status", *given).stdout
        assert "What is applied could not be read." in text
        assert " applied, " not in text
        assert " pending" not in text
        facts = json.loads(run_migrator("status", "--json", *given).stdout)
        assert (facts["history_read"], facts["up_to_date"]) == (False, False)
