"""Migrations of sqlite-utils and its table, held against sqlite-utils itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.formats.support import content, installed, migrator, refused, run_tool, schema, up
from tests.support.files import make_database, rows

HEAD = 'from sqlite_utils import Migrations\n\nmigrations = Migrations("creatures")\n'

PARTS = {
    "creatures:create_table": """
@migrations()
def create_table(db):
    db["species"].insert_all([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], pk="id")
    db["creatures"].create(
        {"id": int, "name": str, "species": int},
        pk="id",
        foreign_keys=[("species", "species", "id")],
    )
    db["creatures"].insert({"name": "a;b", "species": 1})
    db.execute("INSERT INTO creatures (name, species) VALUES (?, ?)", ["it's", 2])
""",
    "creatures:weight": """
@migrations(name="weight")
def add_weight(db):
    db["creatures"].add_column("weight", float)
    db["creatures"].transform(rename={"name": "title"}, drop_foreign_keys=["species"])
    db["creatures"].upsert({"id": 1, "weight": 2.5}, pk="id")
    try:
        with db.atomic():
            db["creatures"].insert({"title": "gone"})
            db.execute("INSERT INTO nowhere VALUES (1)")
    except Exception:
        pass
""",
    "creatures:search": """
@migrations()
def search(db):
    db["creatures"].enable_fts(["title"], create_triggers=True)
    db["creatures"].insert({"title": "found"})
    db["creatures"].create_index(["species"])
    db.create_view("heavy", "select * from creatures where weight > 1")
    db["one"].insert({"x": 1})
    assert [row["title"] for row in db["creatures"].search("found")] == ["found"]
    db["one"].delete_where("x = ?", [1])
""",
    "sizes:create_table": """
sizes = Migrations("sizes")


@sizes()
def create_table(db):
    for table in db.table_names():
        db["sizes"].insert({"name": table, "rows": db[table].count})
""",
}
"""A rebuilt table, an index with triggers, transactions of its own, and two sets with one name."""

VACUUM = """
@migrations(transactional=False)
def compact(db):
    db.vacuum()
    db.enable_wal()
"""

COLUMNS = "migration_set, name FROM _sqlite_migrations ORDER BY id"


def write(directory: Path, *parts: str, name: str = "migrations.py") -> Path:
    """Write a file with some of the migrations, and return its path."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(HEAD + "".join(parts))
    return path


def sqlite_utils(database: Path, file: Path, *options: str) -> str:
    """Run sqlite-utils on a database."""
    return run_tool(installed("sqlite-utils"), "migrate", database, file, *options)


def nothing_pending(database: Path, file: Path) -> bool:
    """Tell whether sqlite-utils itself finds nothing to do."""
    lists = sqlite_utils(database, file, "--list").split("Pending:")
    return all(part.split()[0] == "(none)" for part in lists[1:])


def without_times(database: Path) -> list[str]:
    """Return a database's content, the times at which migrations were applied aside."""
    copy = Path(shutil.copy(database, database.with_suffix(".copy")))
    make_database(copy, "UPDATE _sqlite_migrations SET applied_at = applied_at LIKE '%+00:00';")
    return content(copy)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with all of them."""
    return write(tmp_path / "files", *PARTS.values())


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database to which sqlite-utils has applied everything, made once."""
    home = tmp_path_factory.mktemp("sqlite-utils")
    sqlite_utils(home / "app.db", write(home, *PARTS.values()))
    return home / "app.db"


@pytest.fixture
def theirs(tmp_path: Path, applied: Path) -> Path:
    """Return a copy of that database."""
    return Path(shutil.copy(applied, tmp_path / "theirs.db"))


@pytest.mark.parametrize("first", range(len(PARTS) + 1))
def test_sqlite_utils_applies_some_and_we_the_rest(
    tmp_path: Path, file: Path, theirs: Path, first: int
) -> None:
    """Whoever begins, sqlite-utils finds nothing pending, and the database is the one it makes."""
    database = tmp_path / "app.db"
    if first:
        sqlite_utils(database, write(tmp_path / "part", *list(PARTS.values())[:first]))
    done = up(database, file)
    assert done.code == 0, done.finished
    assert done.finished["applied"] == len(PARTS) - first
    assert done.one("plan.ready")["way"] == ("in-place" if first < len(PARTS) else None)
    assert nothing_pending(database, file)
    assert schema(database) == schema(theirs)
    assert without_times(database) == without_times(theirs)


def test_we_apply_some_and_sqlite_utils_the_rest(tmp_path: Path, file: Path, theirs: Path) -> None:
    """What we leave is what sqlite-utils would have left: it goes on from there."""
    database = tmp_path / "app.db"
    assert up(database, write(tmp_path / "part", *list(PARTS.values())[:2])).code == 0
    sqlite_utils(database, file)
    assert without_times(database) == without_times(theirs)
    assert up(database, file).finished["outcome"] == "up_to_date"


def test_what_commits_by_itself_runs_as_well(tmp_path: Path) -> None:
    """It did before sqlite-utils 4, which cannot end its own transaction after that."""
    text = """
@migrations()
def first(db):
    with db.conn:
        db.conn.execute("CREATE TABLE one (x)")
    db.conn.executescript("CREATE TABLE two (x); INSERT INTO two VALUES (1);")
    db.conn.commit()
"""
    database = tmp_path / "app.db"
    file = write(tmp_path / "files", text)
    assert up(database, file).code == 0
    assert nothing_pending(database, file)
    assert {row[1] for row in schema(database)} >= {"one", "two"}


def test_without_a_transaction_it_runs_on_a_copy(tmp_path: Path, theirs: Path) -> None:
    """What says that it needs none has none, and its journal mode is the database's."""
    file = write(tmp_path / "files", *PARTS.values(), VACUUM)
    plan = json.loads(migrator("plan", theirs, file, "--json").stdout)
    assert (plan["format"], plan["way"]) == ("sqlite-utils", "copy")
    done = up(theirs, file)
    assert done.code == 0, done.finished
    assert rows(theirs, "PRAGMA journal_mode") == [("wal",)]
    assert nothing_pending(theirs, file)


def test_what_needs_no_transaction_is_told_how(tmp_path: Path) -> None:
    """The hint names what sqlite-utils calls it."""
    text = "\n@migrations()\ndef compact(db):\n    db.vacuum()\n"
    done = up(tmp_path / "app.db", write(tmp_path / "files", text))
    assert (done.code, done.one("migration.failed")["line"]) == (80, 7)
    assert "`(transactional=False)`" in done.finished["hint"]


def test_it_is_told(tmp_path: Path, file: Path, theirs: Path) -> None:
    """`status`, `plan`, `check` and `verify` work on it."""
    plan = json.loads(migrator("plan", tmp_path / "new.db", file, "--json").stdout)
    assert [each["version"] for each in plan["pending"]] == list(PARTS)
    assert {each["file"] for each in plan["pending"]} == {"migrations.py"}
    status = json.loads(migrator("status", theirs, file, "--json").stdout)
    assert (status["format"], status["pending"], status["problems"]) == ("sqlite-utils", [], [])
    names = [each["name"] for each in status["applied"]]
    assert names == ["create_table", "weight", "search", "create_table"]
    assert migrator("check", theirs, file).code == 0
    assert migrator("verify", theirs, file).code == 0
    refused(migrator("down", theirs, file), "migrations.no_down", "sizes:create_table")


@pytest.mark.parametrize(
    "head",
    [
        "from sqlite_migrate import Migrations\nm = Migrations('a')\n",
        "from sqlite_utils import Migrations as M\nm = M('a')\n",
        "import sqlite_utils\nm = sqlite_utils.Migrations('a')\n",
        "import sqlite_utils.migrations as s\nm = s.Migrations('a')\n",
    ],
)
def test_its_syntax_tree_is_recognised(tmp_path: Path, head: str) -> None:
    """However `Migrations` is imported, the call of it is seen without running the file."""
    path = tmp_path / "any.py"
    path.write_text(f"{head}\n@m()\ndef first(db):\n    db['t'].create({{'x': int}})\n")
    database = tmp_path / "app.db"
    done = up(database, path)
    assert (done.code, done.one("plan.ready")["format"]) == (0, "sqlite-utils")
    assert rows(database, f"SELECT {COLUMNS}") == [("a", "first")]


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "def create_migration_runner(db_path):\n    return lambda: None\n",
        "import sqlite_utils\n# Migrations('a')\n",
        "from sqlite_utils import Migrations\nMigrations\n",
        "class Migrations:\n    pass\n\nsqlite_utils = Migrations()\n",
    ],
)
def test_another_file_is_a_registry(tmp_path: Path, text: str) -> None:
    """A file with our factory, or without a set, is read as one of ours."""
    path = tmp_path / "any.py"
    path.write_text(text)
    database = make_database(tmp_path / "app.db", "CREATE TABLE a (x);")
    refused(up(database, path), "migrations.registry", "create_migration_runner")


def test_a_factory_that_is_named_is_ours(tmp_path: Path, file: Path) -> None:
    """`FILE.py:FACTORY` is a registry, whatever else is in the file."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE a (x);")
    refused(up(database, Path(f"{file}:make")), "migrations.registry", "make")


def test_looking_runs_the_file_in_a_child_alone(tmp_path: Path) -> None:
    """It may end its process, and may not open the database while it is read."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE a (x);")
    ending = write(tmp_path / "a", "import os\nos._exit(0)\n")
    refused(up(database, ending), "migrations.import", "migrations.py")
    opening = write(tmp_path / "b", f"import sqlite3\nsqlite3.connect({str(database)!r})\n")
    refused(up(database, opening), "migrations.import", "migrations.py, line 5")
    assert rows(database, "SELECT name FROM sqlite_master") == [("a",)]


def test_the_package_has_to_be_there(tmp_path: Path, file: Path) -> None:
    """Without it the file cannot be read, and the hint says where it is looked for."""
    hidden = tmp_path / "hidden" / "sqlite_utils"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'sqlite_utils'\", name='sqlite_utils')\n"
    )
    from tests.support.processes import run_migrator

    done = run_migrator(
        *("up", "--database", tmp_path / "app.db", "--migrations", file),
        cwd=hidden.parent,
    )
    refused(done, "migrations.import", "sqlite_utils", "Install", "PYTHONPATH")


def test_a_failing_migration_is_told_with_its_line(tmp_path: Path, theirs: Path) -> None:
    """Nothing of the run stays."""
    bad = '\n@migrations()\ndef bad(db):\n    db["new"].create({"x": int})\n    db["no"].drop()\n'
    file = write(tmp_path / "files", *PARTS.values(), bad)
    before = theirs.read_bytes()
    done = up(theirs, file)
    failed = done.one("migration.failed")
    line = file.read_text().splitlines().index('    db["no"].drop()') + 1
    assert (done.code, failed["version"], failed["line"]) == (80, "creatures:bad", line)
    assert "creatures:bad (migrations.py)" in failed["message"]
    assert "no such table: no" in failed["error"]
    assert theirs.read_bytes() == before


def test_rows_lost_are_guarded(tmp_path: Path, theirs: Path) -> None:
    """A function says what it loses as an attribute; a `delete_where` of its own needs none."""
    lossy = """
@migrations()
def lossy(db):
    db.conn.executescript(
        "CREATE TABLE n AS SELECT * FROM species WHERE id > 1; DROP TABLE species;"
        "ALTER TABLE n RENAME TO species;"
    )
"""
    done = up(theirs, write(tmp_path / "files", *PARTS.values(), lossy))
    assert (done.code, done.finished["reason"]) == (81, "rows.lost")
    said = lossy + "\n\nlossy.allow_row_loss = ('species',)\n"
    assert up(theirs, write(tmp_path / "files", *PARTS.values(), said)).code == 0
    wrong = said.replace("('species',)", "5").replace("lossy", "other")
    file = write(tmp_path / "files", *PARTS.values(), said, wrong)
    refused(up(theirs, file), "migrations.registry", "other", "allow_row_loss")


def test_the_first_form_of_the_table(tmp_path: Path, file: Path) -> None:
    """The table of sqlite-migrate before 0.2 is read, and brought to the newer form by a run."""
    script = """
        CREATE TABLE [_sqlite_migrations] (
           [migration_set] TEXT,
           [name] TEXT PRIMARY KEY,
           [applied_at] TEXT
        );
        INSERT INTO _sqlite_migrations VALUES ('creatures', 'weight', '2024-01-02 03:04:05.6');
        INSERT INTO _sqlite_migrations VALUES ('others', 'a', '2024-01-02 03:04:05.7');
        CREATE TABLE creatures (id INTEGER PRIMARY KEY, title TEXT, species INTEGER, weight FLOAT);
    """
    parts = write(tmp_path / "part", PARTS["creatures:weight"])
    ours = make_database(tmp_path / "ours.db", script)
    by_them = make_database(tmp_path / "by-them.db", script)
    assert up(ours, parts).finished["outcome"] == "up_to_date"
    both = write(tmp_path / "both", PARTS["creatures:weight"], PARTS["creatures:search"])
    assert up(ours, both).code == 0
    sqlite_utils(by_them, both)
    assert schema(ours) == schema(by_them)
    query = "SELECT id, migration_set, name FROM _sqlite_migrations"
    assert rows(ours, query) == rows(by_them, query)


def test_baseline_by_set_and_name(tmp_path: Path, file: Path) -> None:
    """A name that two sets have is not enough, one that one set has is."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE creatures (id INTEGER);")
    assert migrator("baseline", database, file, "create_table").code == 64
    assert migrator("baseline", database, file, "weight").code == 0
    assert rows(database, f"SELECT {COLUMNS}") == [
        ("creatures", "create_table"),
        ("creatures", "weight"),
    ]
    assert migrator("baseline", database, file, "sizes:create_table").code == 0
    assert nothing_pending(database, file)


def test_what_is_applied_and_has_no_function(tmp_path: Path, theirs: Path) -> None:
    """After the last one of its set it is newer, else missing; other sets are other files'."""
    others = make_database(
        theirs, "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('others', 'a');"
    )
    parts = dict(PARTS)
    del parts["sizes:create_table"]
    assert up(others, write(tmp_path / "a", *parts.values())).finished["outcome"] == "up_to_date"
    del parts["creatures:search"]
    refused(up(others, write(tmp_path / "b", *parts.values())), "history.newer", "creatures:search")
    parts = {key: text for key, text in PARTS.items() if key != "creatures:weight"}
    new = "\n@migrations()\ndef new(db):\n    pass\n"
    file = write(tmp_path / "c", *parts.values(), new)
    refused(up(others, file), "history.missing", "creatures:weight")


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ("migrations = 5\n", "migrations.registry", "migrations.py"),
        (
            "sets = Migrations('creatures')\n\n@sets()\ndef weight(db):\n    pass\n",
            "migrations.duplicate",
            "creatures:weight",
        ),
        ("\n@migrations()\nasync def late(db):\n    pass\n", "migrations.bad_function", "late"),
        ("\n@migrations()\ndef late():\n    pass\n", "migrations.bad_function", "late"),
        ("raise ValueError('what')\n", "migrations.import", "what"),
        ("\n@migrations()\ndef weight(db):\n    pass\n", "migrations.import", "already registered"),
    ],
)
def test_bad_files_are_refused(
    tmp_path: Path, theirs: Path, text: str, reason: str, told: str
) -> None:
    """What is wrong in the file is named, and nothing is written."""
    parts: Any = () if text.startswith("migrations =") else PARTS.values()
    before = theirs.read_bytes()
    refused(up(theirs, write(tmp_path / "files", *parts, text)), reason, told)
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        (
            "INSERT INTO _sqlite_migrations (migration_set) VALUES ('creatures');",
            "history.broken",
            "migration None",
        ),
        ("ALTER TABLE _sqlite_migrations ADD COLUMN more;", "history.not_ours", "more"),
    ],
)
def test_bad_tables_are_refused(
    file: Path, theirs: Path, script: str, reason: str, told: str
) -> None:
    """The table and what to do about it are named, and nothing is written."""
    make_database(theirs, script)
    before = theirs.read_bytes()
    refused(up(theirs, file), reason, told)
    assert theirs.read_bytes() == before


def test_the_format_and_the_kind_of_source_fit(tmp_path: Path, file: Path, theirs: Path) -> None:
    """Its migrations are a file, those of other tools a directory."""
    for source, name in ((file.parent, "sqlite-utils"), (file, "goose")):
        done = up(theirs, source, "--format", name)
        assert (done.code, done.finished["reason"]) == (64, "usage")
    assert up(theirs, file, "--format", "sqlite-utils").code == 0
    missing = tmp_path / "no.py"
    refused(up(theirs, missing, "--format", "sqlite-utils"), "migrations.registry_missing", "no.py")
