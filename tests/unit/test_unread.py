"""What lies in a directory of migrations and is not read: passed over, or refused with a way out."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from migrator.errors import MisfitError
from migrator.parsing import directory as source
from migrator.parsing import unread_files

READ = "000_first.sql"

UNSEEN = [
    "20240101000000_init/migration.sql", "2024-01-01-000000_users/up.sql", "1/up.sql", "V1/a.sql",
    "migrations/001_x.sql", "db/migrations/001_x.sql", "sqls/20240101-init-up.sql", "sub/002_x.py",
    "V0001.Init.up.sql", "patch1.sql", "init.sql", "001.create.sql", "003.foo.SQL", "create.ddl",
    "001_x.sql.gz", "001_x.sql.txt", "20240101000000_init.js", "20240101-init.ts", "1_create.rb",
    "2024_01_01_000000_create_users_table.php", "20240101000000_users.exs", "V2__Fill.java",
    "m20220101_000001_create.rs", "Version20240101120000.php", "1700000000000-CreateUsers.ts",
    "m0001_x.py", "migration_002.py", "v2_users.py", "ae1027a6acf1_users.py", "001_x", "0001.xml",
    "004_more.json", "versions/ae1027a6acf1_users.py", "priv/repo/migrations/20240101_x.exs",
    "20240101_users.go", "001_init.sh", "1.0.0.groovy", "update_3.sql",
]  # fmt: skip
"""What looks like somebody's migration and is not read, whatever lies beside it."""

ALONE = [
    "schema.sql", "add_users.py", "migration_framework.py", "CreateUsers.ts", "index.js",
    "db.changelog-master.xml", "changelog.yaml", "app/models.py", "src/create_users.rb",
    "fixtures/001_x.sql", "archive/001_x.sql", "sql/users.sql",
]  # fmt: skip
"""What is no migration beside one, and where nothing is read is all that there is."""

PASSED_OVER = [
    "README.md", "LICENSE", "Makefile", "__init__.py", "__pycache__/001_x.pyc", ".gitkeep",
    ".git/001_x.sql", "..2024_05_05/001_x.sql", "001_x.sql~", ".001_x.sql.swp", "001_x.sql.orig",
    "_helpers.py", "helpers.py", "db_utils.py", "script.py.mako", "alembic.ini", "lost+found/",
    "_old/001_x.sql", "001_notes.txt", "notes/readme.rst", "empty/", "001_data.csv", "atlas.sum",
    "package.json", "001_x.sql.disabled", "docs/1.md", "migration_runner.py", "001_notes.sql.bak",
]  # fmt: skip

UNDOING = [
    "U1__drop.sql", "u2__x.sql", "0001.create.rollback.sql", "001.undo.create.sql", "001_x.down.sql",
    "001_x.undo.sql", "001_x.revert.py", "001-x-down.sql", "20240101-users-down.sql", "001_down.sql",
    "002_rollback.sql", "undo_001.sql", "rollback.sql", "V1__x.down.sql", "001.down.sql",
    "3 roll down.sql", "1.2-revert-prices.SQL", "003Undo.sql", "down/001.sql", "001_x.backward.sql",
    "1_a.DOWN.SQL", "001_x.rollback.py", "001.rollback.py",
]  # fmt: skip
"""What takes an upgrade back by its name: nobody may be told to make an upgrade of it."""


def fill(directory: Path, *names: str) -> Path:
    """Create empty files, and directories where a name ends in a slash."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
    return directory


def refused(directory: Path) -> MisfitError:
    """Return the error of listing a directory."""
    with pytest.raises(MisfitError) as caught:
        source.list_directory(directory)
    assert 78 == caught.value.exit_code
    assert "migrations.bad_name" == caught.value.reason
    return caught.value


def proposed(error: MisfitError) -> list[str]:
    """Return the migrations' names that a file is to be given, by what an error says."""
    quoted = re.findall(r"\bto '([^']+)'", error.message + error.hint)
    return [each for each in quoted if not each.startswith(("_", "NUMBER_"))]


@pytest.mark.parametrize("beside", [(), (READ,)], ids=["alone", "beside a migration"])
@pytest.mark.parametrize("name", UNSEEN)
def test_what_looks_like_somebodys_migration_is_never_passed_over(tmp_path, name, beside):
    """A number, SQL, or a directory of either: 78 that names it, also beside what is read."""
    error = refused(fill(tmp_path, name, *beside))
    assert repr(name.split("/")[0]) in error.message
    assert [name.split("/")[0]] == [error.data["file"]]


@pytest.mark.parametrize("name", ALONE)
def test_only_an_empty_source_is_empty(tmp_path, name):
    """Where nothing is read, what may be a migration is refused; beside one it is none."""
    fill(tmp_path, name)
    assert repr(name.split("/")[0]) in refused(tmp_path).message
    fill(tmp_path, "000_first.py")
    assert ["000"] == [entry.version for entry in source.list_directory(tmp_path)]


@pytest.mark.parametrize("beside", [(), (READ,)], ids=["alone", "beside a migration"])
@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_clearly_something_else_is_passed_over(tmp_path, name, beside):
    """Hidden and underscored names, documents, helpers, editors' and tools' files are nobody's."""
    found = source.list_directory(fill(tmp_path, name, *beside))
    assert list(beside) == [entry.file for entry in found]


@pytest.mark.parametrize("name", ["schema.sql", "structure.sql"])
def test_a_dump_of_the_schema_beside_migrations_is_none(tmp_path, name):
    """Other tools write the whole schema beside the migrations."""
    assert 1 == len(source.list_directory(fill(tmp_path, name, READ)))


@pytest.mark.parametrize(
    "name", ["001_data.json", "001_data/rows.sql", "sql/001_rows.sql", "sql/rows.sql", "001.yaml"]
)
def test_what_a_migration_in_python_reads_is_its_own(tmp_path, name):
    """A file with the number of a Python migration may be read by it; by SQL nothing is."""
    assert 1 == len(source.list_directory(fill(tmp_path, name, "001_load.py")))
    (tmp_path / "001_load.py").rename(tmp_path / "001_load.sql")
    refused(tmp_path)


@pytest.mark.parametrize("name", UNDOING)
def test_no_advice_makes_an_upgrade_of_what_undoes_one(tmp_path, name):
    """The only name that an undo script is ever told to take is one that is ignored."""
    directory = fill(tmp_path, name)
    error = refused(directory)
    assert [] == proposed(error)
    assert "NUMBER_" not in error.message.replace("NUMBER_NAME.", "")
    if "/" not in name:
        assert f"'_{name}'" in error.message
        assert "`-- migrate:down`" in error.message
        (directory / name).rename(directory / f"_{name}")
        assert () == source.list_directory(directory)


@pytest.mark.parametrize(
    "name",
    ["3-add.sql", "001_x.SQL", "003add.py", "1._x.sql", " 001_x.sql", "V1__create.sql",
     "V1_2__create.sql", "0001-init.sql", "2 x.sql"],
)  # fmt: skip
def test_a_name_that_is_proposed_is_a_migrations(tmp_path, name):
    """Renamed as told, the file is read, and nothing that was there is overwritten."""
    directory = fill(tmp_path, name)
    (meant,) = proposed(refused(directory))
    assert not (directory / meant).exists()
    (directory / name).rename(directory / meant)
    assert [meant] == [entry.file for entry in source.list_directory(directory)]


@pytest.mark.parametrize(
    ("name", "there"), [("1-a.sql", "001_a.sql"), ("V1__b.sql", "1_x.sql"), ("1_A.SQL", "1_A.sql")]
)
def test_no_name_is_proposed_that_is_taken(tmp_path, name, there):
    """A rename to it would overwrite a migration, or make a second of its version."""
    error = refused(fill(tmp_path, name, there))
    assert "exists already" in error.message
    assert [] == proposed(error)


def test_a_directory_of_migrations_one_deeper_is_named_as_an_option(tmp_path):
    """The parent was mounted: what is proposed leads to the migrations."""
    error = refused(fill(tmp_path / "a b", "migrations/001_x.sql", "migrations/002_y.sql"))
    (told,) = re.findall(r"`--migrations ([^`]+)`", error.message)
    (path,) = shlex.split(told)
    assert ["001", "002"] == [entry.version for entry in source.list_directory(Path(path))]


def test_a_directory_for_each_part_is_not_named_as_an_option(tmp_path):
    """One of several directories would be a part of the migrations only."""
    error = refused(fill(tmp_path, "2023/001_x.sql", "2024/002_y.sql"))
    assert "--migrations" not in error.message + error.hint


@pytest.mark.parametrize("lower", ["001_a_down.sql", "001_a_undo.sql", "1_rollback_a.sql"])
def test_of_two_halves_with_one_version_none_becomes_a_later_upgrade(tmp_path, lower):
    """The advice for one version twice is not to number an undo script anew."""
    with pytest.raises(MisfitError) as caught:
        source.list_directory(fill(tmp_path, "001_a_up.sql", lower))
    assert "migrations.duplicate" == caught.value.reason
    assert "number of its own" not in caught.value.hint
    assert "`-- migrate:down`" in caught.value.hint


def test_many_bad_names_are_cut_in_the_message_and_not_in_the_data(tmp_path):
    """A directory for each of a hundred migrations is one readable line."""
    error = refused(fill(tmp_path, *(f"{n:04}_x/migration.sql" for n in range(100))))
    assert 100 == len(error.data["problems"])
    assert len(error.message) < 4096
    assert "100 names" in error.message


def test_a_directory_that_cannot_be_looked_into_is_refused(tmp_path, monkeypatch):
    """Nobody can say that there is no migration in it."""
    fill(tmp_path, READ, "more/")
    scan = os.scandir

    def deny(path):
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert "Permission denied" in refused(tmp_path).message


def test_a_circle_of_links_ends(tmp_path):
    """A link to a directory above is followed a few times at most."""
    (tmp_path / "again").symlink_to(tmp_path)
    assert () == source.list_directory(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("001_x.down.sql", True), ("U1__x.sql", True), ("V1__undo.sql", True), ("RollBack.sql", True),
     ("001_cooldown.sql", False), ("001_downloads.sql", False), ("reverted.sql", False), ("roll_back.sql", True), ("back_roll.sql", False)],
)  # fmt: skip
def test_a_word_of_a_name_says_that_it_undoes(name, expected):
    """Whole words only: downloads are no `down`."""
    assert expected == unread_files.undoes(name)
