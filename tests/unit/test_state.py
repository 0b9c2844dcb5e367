"""What a run notes about itself, and that no reader is misled by it."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path
from shlex import quote

import pytest

from migrator.database import run_state
from migrator.database.run_state import RunState
from migrator.errors import MigratorError, MisfitError, NotReadyError
from migrator.files import Ownership
from migrator.value import replace
from tests.support.recorder import in_child

OTHER = (12345, 12345)
OURS = Ownership(os.getuid(), os.getgid(), 0o644, 0o755)
NOTED = RunState(
    run_id="01J",
    phase="migrate",
    since="2026-01-31T12:00:00Z",
    reason="up",
    way="copy",
    database="/data/app.db",
    backup="app.db-000001-20260131T120000Z.db",
    journal_mode="wal",
    extra={"page_size": 4096},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the state is noted."""
    return tmp_path / "state.json"


def test_what_was_noted_is_read_back(path: Path) -> None:
    """The next start knows what the last run knew."""
    run_state.write(path, NOTED, OURS)
    assert run_state.read(path) == NOTED
    run_state.write(path, replace(NOTED, phase="commit"), OURS)
    assert run_state.read(path) == replace(NOTED, phase="commit")


def test_it_is_private_and_has_a_format_number(path: Path) -> None:
    """The file is 0600 whatever the database's mode, and says its format."""
    run_state.write(path, NOTED, OURS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["format"] == 1


def test_nothing_noted_is_no_unfinished_run(path: Path) -> None:
    """A missing file, or a missing directory, is None, and stays missing."""
    assert run_state.read(path) is None
    assert run_state.read(path.parent / "none" / "state.json") is None
    assert list(path.parent.iterdir()) == []


def test_what_is_cleared_is_gone(path: Path) -> None:
    """After clearing no run is unfinished; clearing twice is no error."""
    run_state.write(path, NOTED, OURS)
    run_state.clear(path)
    run_state.clear(path)
    assert run_state.read(path) is None


def test_an_older_version_refuses_what_a_later_one_wrote(path: Path) -> None:
    """A higher format number is 78, and says that a later version wrote it."""
    path.write_text(json.dumps({"format": run_state.FORMAT + 1, "whatever": True}))
    with pytest.raises(MisfitError, match="later version") as caught:
        run_state.read(path)
    assert (caught.value.exit_code, caught.value.reason) == (78, "state.newer")


def test_fields_that_are_not_known_are_passed_over(path: Path) -> None:
    """Within a format a field may be added without stranding anybody."""
    run_state.write(path, NOTED, OURS)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"added": 1}))
    assert run_state.read(path) == NOTED


GOOD = {"format": 1, "run_id": "x", "phase": "commit", "since": "t", "reason": "up"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00\xff",
        json.dumps(GOOD | {"format": "1"}),
        json.dumps(GOOD | {"phase": "dance"}),
        json.dumps(GOOD | {"run_id": 7}),
        json.dumps(GOOD | {"run_id": ""}),
        json.dumps(GOOD | {"backup": ["a"]}),
        json.dumps(GOOD | {"extra": None}),
        json.dumps(GOOD)[:-1] + " " * (1 << 20) + "}",
        "[" * 100_000,
        json.dumps(GOOD | {"format": True}),
        json.dumps(GOOD | {"journal_mode": "off"}),
        json.dumps(GOOD | {"journal_mode": "wal; DROP TABLE users"}),
        json.dumps(GOOD | {"extra": {"wanted_journal_mode": "off"}}),
        json.dumps(GOOD | {"extra": {"undone": [["001"]]}}),
        json.dumps(GOOD | {"extra": {"found": "pebbles"}}),
        json.dumps(GOOD | {"extra": {"mode": "off"}}),
        json.dumps(GOOD | {"extra": {"fingerprint": 1}}),
        json.dumps(GOOD | {"extra": {"kept": ["a"]}}),
        json.dumps(GOOD | {"extra": {"schema_version": "1"}}),
        json.dumps(GOOD | {"extra": {"cancelled": "no"}}),
    ],
)
def test_what_no_crash_can_leave_is_not_guessed_at(path: Path, text: str) -> None:
    """The file is written atomically, so anything else in it needs a person: 78."""
    path.write_text(text)
    with pytest.raises(MisfitError, match=re.escape(str(path))) as caught:
        run_state.read(path)
    assert caught.value.reason == "state.unreadable"
    assert f"`rm {quote(str(path))}`" in caught.value.hint


def test_the_command_that_deletes_it_names_it_whatever_it_is_called(tmp_path: Path) -> None:
    """It is typed as it was printed, where a directory has a quote and a blank in its name."""
    path = tmp_path / "the owner's data" / "state.json"
    path.parent.mkdir()
    path.write_text("?")
    with pytest.raises(MisfitError) as caught:
        run_state.read(path)
    command = caught.value.hint.split("`")[1]
    assert ["rm", str(path)] == shlex.split(command)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_regular_file_is_not_read(path: Path, kind: str, tmp_path: Path) -> None:
    """A link, a pipe or a directory in its place is 69, and nothing is followed."""
    other = tmp_path / "other"
    other.write_text(json.dumps(GOOD))
    if kind == "link":
        path.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(NotReadyError) as caught:
        run_state.read(path)
    assert caught.value.reason == "volume.unsafe_entry"


def test_a_reader_without_permission_is_told_so(open_path: Path, as_root: None) -> None:
    """Our directory is private; another user who looks gets 77, and every command that leads on."""
    database = open_path / "app.db"
    database.touch(mode=0o644)
    home = open_path / "app.db.migrator"
    home.mkdir(mode=0o700)
    run_state.write(home / "state.json", NOTED, OURS)

    def read() -> str:
        try:
            run_state.read(home / "state.json", database)
        except MigratorError as error:
            return f"{error.reason} {error.hint}"
        return "read"

    told = in_child(read, OTHER)
    assert told.startswith("database.permission ")
    assert "PUID=12345 -e PGID=12345" in told
    assert f"`chown 12345:12345 {open_path} {database} && chown -R 12345:12345 {home}`" in told


def test_the_time_is_utc_to_the_second() -> None:
    """Times are ISO 8601 in UTC."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", run_state.now())
