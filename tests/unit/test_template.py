"""The files that `migrator new` writes."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from migrator.errors import DiskError, MisfitError, NoPermissionError, UsageError
from migrator.formats import template
from migrator.parsing import directory as source
from migrator.parsing import scripts


def after(directory, *names: str):
    """Return the name of the file that follows the given ones."""
    for name in names:
        (directory / name).touch()
    return template.create(directory, "next", sql=False).name


def test_the_first_one_makes_the_directory(tmp_path):
    """A missing directory is created, and numbers begin at 001."""
    path = template.create(tmp_path / "a" / "migrations", "Create users", sql=False)
    assert tmp_path / "a" / "migrations" / "001_create_users.py" == path


@pytest.mark.parametrize("sql", [False, True])
def test_what_is_written_parses(tmp_path, sql):
    """The new file is a migration with both directions."""
    template.create(tmp_path, "add email", sql)
    (entry,) = source.list_directory(tmp_path)
    script = scripts.load(scripts.read(entry))
    assert script.has_down
    assert script.transactional
    assert (script.sql_up is not None) == sql
    assert "add_email" == entry.name


def test_an_unwritten_migration_does_not_pass_for_done(tmp_path):
    """A `.py` skeleton raises, so that it is not recorded as applied by mistake."""
    template.create(tmp_path, "x", sql=False)
    script = scripts.load(scripts.read(source.list_directory(tmp_path)[0]))
    with pytest.raises(NotImplementedError, match=r"001_x\.py"):
        script.up(None)
    assert "X." == script.description


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["001_a.sql"], "002_next.py"),
        (["009_a.sql", "010_b.py"], "011_next.py"),
        (["1_a.sql", "2_b.sql"], "003_next.py"),
        (["0001_a.sql"], "0002_next.py"),
        (["999_a.sql"], "1000_next.py"),
        (["0099_a.sql", "100_b.sql"], "0101_next.py"),
        (["1.0_a.sql", "1.9_b.sql"], "1.10_next.py"),
        (["1.02_a.sql"], "1.03_next.py"),
        (["1.2_a.sql", "002_b.sql"], "003_next.py"),
        (["20991231235959_a.sql"], "20991231235960_next.py"),
        (["99999999999_a.sql"], "100000000000_next.py"),
        (["README.md", "_9_x.sql"], "001_next.py"),
    ],
)
def test_numbers_follow_the_highest(tmp_path, names, expected):
    """The next version is spelled like those that are there."""
    assert expected == after(tmp_path, *names)


@pytest.mark.parametrize(
    "version", ["20240101", "2024010112", "202401011200", "20240101120000", "1600000000",
                "1600000000000"]
)  # fmt: skip
def test_timestamps_are_followed_by_now(tmp_path, version):
    """Where versions are timestamps the next is one, of the same width and higher."""
    made = after(tmp_path, f"{version}_a.sql").split("_")[0]
    assert len(version) == len(made)
    assert int(made) > int(version)
    assert int(made) != int(version) + 1


@pytest.mark.parametrize(
    ("name", "sql", "expected"),
    [
        ("Add E-Mail to users!", False, "001_add_e_mail_to_users.py"),
        ("  añadir größe  ", True, "001_anadir_groe.sql"),
        ("add_users.sql", False, "001_add_users.sql"),
        ("add_users.py", False, "001_add_users.py"),
        ("../../etc/passwd", False, "001_etc_passwd.py"),
        ("x" * 300, False, f"001_{'x' * 100}.py"),
        ("v1.2", False, "001_v1_2.py"),
    ],
)
def test_names_become_plain(tmp_path, name, sql, expected):
    """Names are small letters, digits and underscores, and never a path."""
    assert expected == template.create(tmp_path, name, sql).name


@pytest.mark.parametrize("name", ["", " ", "___", "!?", ".sql", "日本"])
def test_a_name_without_letters_is_refused(tmp_path, name):
    """A name that says nothing is a usage error, and writes nothing."""
    with pytest.raises(UsageError) as caught:
        template.create(tmp_path / "new", name, sql=False)
    assert 64 == caught.value.exit_code
    assert not (tmp_path / "new").exists()


def test_the_mode_follows_the_umask(tmp_path):
    """The file is as private as the user's other files."""
    before = os.umask(0o027)
    try:
        path = template.create(tmp_path, "x", sql=True)
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_a_directory_with_bad_names_is_refused(tmp_path):
    """The next number is only known where all names are understood."""
    (tmp_path / "3-add.sql").touch()
    with pytest.raises(MisfitError):
        template.create(tmp_path, "x", sql=False)
    assert ["3-add.sql"] == os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EACCES, NoPermissionError), (errno.ENOSPC, DiskError), (errno.EEXIST, UsageError)],
)
def test_what_the_system_refuses_is_said(tmp_path, monkeypatch, number, expected):
    """Permission, space and a file that is there already end with their own codes."""

    def fail(*_args: object):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(template, "_write_new", fail)
    with pytest.raises(expected) as caught:
        template.create(tmp_path, "x", sql=False)
    assert "001_x.py" in caught.value.message


def test_a_file_is_never_overwritten(tmp_path, monkeypatch):
    """A file that appeared meanwhile stays as it is."""
    (tmp_path / "001_x.py").write_text("mine")
    monkeypatch.setattr(template, "list_directory", lambda _path: ())
    with pytest.raises(UsageError):
        template.create(tmp_path, "x", sql=False)
    assert "mine" == (tmp_path / "001_x.py").read_text()
