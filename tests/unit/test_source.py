"""Which files of a directory are migrations, in which order, and which names are refused."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from migrator.errors import MisfitError
from migrator.parsing import directory as source
from migrator.parsing.file_names import version_key


def fill(directory, *names: str):
    """Create empty files."""
    for name in names:
        (directory / name).touch()
    return directory


def refused(directory):
    """Return the error of listing a directory."""
    with pytest.raises(MisfitError) as caught:
        source.list_directory(directory)
    assert 78 == caught.value.exit_code
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [("001", (1,)), ("1", (1,)), ("1.2", (1, 2)), ("01.010", (1, 10)), ("0", (0,)),
     ("20240101120000", (20240101120000,)), ("", None), ("a", None), ("1.", None), (".1", None),
     ("1..2", None), ("-1", None), (" 1", None), ("1\n", None), ("\u0661", None), ("1_0", None),
     ("9" * 5000, None)],
)  # fmt: skip
def test_version_key_is_the_numbers(text, expected):
    """A version is numbers between dots, compared by value, and nothing else."""
    assert expected == version_key(text)


def test_files_are_ordered_by_version(tmp_path):
    """Numbers count by value and dotted versions part by part; names are kept as spelled."""
    fill(tmp_path, "010_c.sql", "2_b.py", "001_a.sql", "1.10_y.sql", "1.2_x.py", "20240101_z.sql")
    found = source.list_directory(tmp_path)
    assert ["001", "1.2", "1.10", "2", "010", "20240101"] == [entry.version for entry in found]
    assert ["a", "x", "y", "b", "c", "z"] == [entry.name for entry in found]
    assert (1, 10) == found[2].key
    assert tmp_path / "001_a.sql" == found[0].path
    assert "001_a.sql" == found[0].file


def test_names_may_hold_anything(tmp_path):
    """What follows the underscore is free: blanks, dots, dashes, other letters."""
    fill(tmp_path, "1_add e-mail.v2.sql", "2_größe.py", "3___x.sql")
    assert ["add e-mail.v2", "größe", "__x"] == [e.name for e in source.list_directory(tmp_path)]


def test_an_empty_directory_has_no_migrations(tmp_path):
    """A directory without migrations is no error."""
    assert () == source.list_directory(tmp_path)


def test_what_is_no_migration_is_skipped(tmp_path):
    """Packages' files, documents, helpers and what editors leave behind are passed over."""
    fill(
        tmp_path,
        "__init__.py", "README.md", "helpers.py", "schema.sql", ".gitkeep", "._001_x.sql",
        "#001_x.sql#", ".#001_x.sql", "001_x.sql~", "001_x.sql.bak", "001_x.py.swp",
        "001_x.sql.orig", "001_x.sql.rej", "001_x.sql.tmp", "001_x.pyc", "_001_x.sql",
        "001_notes.txt", "2024-plan.md", "000_a.sql", "script.py.mako", "alembic.ini", "Makefile",
        "001_x.sql.disabled", "package.json", "index.js", "base64.py", "migration_runner.py",
    )  # fmt: skip
    for name in ("__pycache__", "..2024_01_01", "fixtures", "001_data", "lost+found"):
        (tmp_path / name).mkdir()
    assert ["000"] == [entry.version for entry in source.list_directory(tmp_path)]


def test_symbolic_links_to_files_are_migrations(tmp_path):
    """A Kubernetes ConfigMap is links through a `..data` directory."""
    real = tmp_path / "..2024_05_05"
    real.mkdir()
    fill(real, "001_a.sql")
    (tmp_path / "..data").symlink_to(real.name)
    (tmp_path / "001_a.sql").symlink_to("..data/001_a.sql")
    assert ["001"] == [entry.version for entry in source.list_directory(tmp_path)]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("3-add.sql", "'3_add.sql'"),
        ("001.sql", "a name behind its number"),
        ("001_.sql", "a name behind its number"),
        ("001_x.SQL", "'001_x.sql'"),
        ("001_X.Py", "'001_X.py'"),
        ("1.2.sql", "a name behind its number"),
        ("003add.py", "'003_add.py'"),
        ("1._x.sql", "'1_x.sql'"),
        (" 001_x.sql", "'001_x.sql'"),
        ("001_x.sql ", "'001_x.sql'"),
        ("2fa helper.py", "'2_fa_helper.py'"),
        ("V1__create.sql", "'1_create.sql'"),
        ("V1_2__create.sql", "'1.2_create.sql'"),
        ("R__views.sql", "'NUMBER_views.sql'"),
        ("001_x.up.sql", "`-- migrate:up` and `-- migrate:down`"),
        ("001_x.down.sql", "`-- migrate:up` and `-- migrate:down`"),
    ],
)
def test_a_name_that_looks_like_a_migration_is_refused(tmp_path, name, advice):
    """What looks like a migration and is none is an error that says what to do."""
    error = refused(fill(tmp_path, name))
    assert "migrations.bad_name" == error.reason
    assert repr(name) in error.message
    assert advice in error.message
    assert name == error.data["file"]


def test_all_bad_names_are_listed(tmp_path):
    """One error names every bad name."""
    error = refused(fill(tmp_path, "3-add.sql", "V1__x.sql", "001_good.sql"))
    assert "3-add.sql" in error.message
    assert "V1__x.sql" in error.message
    assert "001_good.sql" not in error.message
    assert 2 == len(error.data["problems"])


def test_what_is_no_file_cannot_be_a_migration(tmp_path):
    """A directory, FIFO, socket or dangling link with a migration's name is refused."""
    (tmp_path / "001_a.sql").mkdir()
    os.mkfifo(tmp_path / "002_b.sql")
    (tmp_path / "003_c.sql").symlink_to("nowhere")
    (tmp_path / "004_d.sql").symlink_to("004_d.sql")
    (tmp_path / "005_e.sql").symlink_to(".")
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as endpoint:
        try:
            # The path of a socket may have 108 bytes at most.
            os.chdir(tmp_path)
            endpoint.bind("006_f.sql")
        finally:
            os.fchdir(here)
            os.close(here)
        error = refused(tmp_path)
    told = [problem["message"] for problem in error.data["problems"]]
    assert 6 == len(told)
    assert "is a directory" in told[0]
    assert "no regular file" in told[1]
    assert "link to nothing" in told[2]
    assert "cannot be accessed" in told[3]
    assert "is a directory" in told[4]
    assert "no regular file" in told[5]


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    """A name that can be neither logged nor stored is refused, printably."""
    try:
        with open(os.fsencode(tmp_path) + b"/001_\xff.sql", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    error = refused(tmp_path)
    assert "UTF-8" in error.message
    error.message.encode()
    error.data["file"].encode()


@pytest.mark.parametrize(
    "names", [("001_a.sql", "1_b.py"), ("001_a.py", "001_a.sql"), ("1.2_a.sql", "01.02_b.sql")]
)
def test_two_files_of_one_version_are_refused(tmp_path, names):
    """`1` and `001` are one version; the error names both files."""
    error = refused(fill(tmp_path, *names, "003_c.sql"))
    assert "migrations.duplicate" == error.reason
    assert all(repr(name) in error.message for name in names)
    assert 1 == len(error.data["problems"])


def test_all_duplicates_are_listed(tmp_path):
    """One error names every version that is there twice."""
    error = refused(fill(tmp_path, "1_a.sql", "01_b.sql", "2_a.sql", "02_b.sql", "002_c.sql"))
    assert ["duplicate"] * 2 == [problem["kind"] for problem in error.data["problems"]]
    assert "'002_c.sql' and '02_b.sql' and '2_a.sql'" in error.message


def test_a_missing_directory_is_refused(tmp_path):
    """A missing directory is an error that names the option."""
    error = refused(tmp_path / "none")
    assert "migrations.directory_missing" == error.reason
    assert repr(str(tmp_path / "none")) in error.message
    assert "--migrations" in error.hint


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    """A file is no directory of migrations."""
    fill(tmp_path, "x")
    assert "migrations.not_a_directory" == refused(tmp_path / "x").reason


def test_an_unreadable_directory_is_refused(tmp_path, monkeypatch):
    """A directory that may not be listed is an error that says for whom."""

    def deny(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # Tests that run as root can read every directory.
    monkeypatch.setattr(os, "scandir", deny)
    error = refused(tmp_path)
    assert "migrations.unreadable" == error.reason
    assert f"user {os.geteuid()}" in error.hint


def test_a_link_in_circles_in_place_of_the_directory_is_refused(tmp_path):
    """A path that the system cannot follow is an error, not a traceback."""
    (tmp_path / "loop").symlink_to("loop")
    assert "migrations.unreadable" == refused(tmp_path / "loop").reason


def test_no_file_is_opened(tmp_path):
    """Names are enough: a file that nobody may read is listed."""
    fill(tmp_path, "001_a.sql")
    (tmp_path / "001_a.sql").chmod(0)
    assert 1 == len(source.list_directory(tmp_path))
