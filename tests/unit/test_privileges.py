"""Becoming another user, and what that user is given on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from entrypoint import identities, ownership, privileges
from entrypoint.identities import Identities, RunAs, User
from migrator.errors import NoPermissionError
from tests.support.files import describe
from tests.support.processes import clean_environment

UID, GID = 12345, 12346
USER = User(UID, GID)


def run(code: str, *args: object, prefix: Sequence[str] = ()) -> Any:
    """Run code in a process of its own and return what it left in `result`."""
    script = f"""
import json, os, sys
from pathlib import Path
from entrypoint import ownership, privileges
from entrypoint.identities import User
from migrator.errors import MigratorError

def status():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {{line.split(":")[0]: line.split(":")[1].split() for line in lines}}

result = None
{code}
print(json.dumps(result))
"""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, *map(str, args)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def owner(path: Path) -> tuple[int, int]:
    """Return whose a file is, a link itself."""
    found = path.lstat()
    return found.st_uid, found.st_gid


@pytest.fixture
def place(open_path: Path, as_root: None) -> Path:
    """Return a directory that root owns, with a database, its sidecars and all that is ours."""
    directory = open_path / "data"
    for name in ("app.db.migrator/failed", "backups"):
        (directory / name).mkdir(parents=True)
    for name in (
        "app.db",
        "app.db-wal",
        "app.db-shm",
        "app.db-journal",
        "app.db.migrator/lock",
        "app.db.migrator/failed/app.db",
        "backups/app.db-000001-20250101T000000Z.db",
        "backups/app.db-000002-of_somebody.db",
        "backups/app.db-1-notes-of-somebody.txt",
        "backups/other.db-000001-20250101T000000Z.db",
        "private.txt",
    ):
        (directory / name).touch()
    describe(directory / "backups/app.db-000001-20250101T000000Z.db", directory / "app.db")
    return directory


# --- Handing over ---


@pytest.mark.root
def test_what_is_handed_over(place: Path) -> None:
    """Database, sidecars, root's directory, ours and our backups go to the user, nothing else."""
    ownership.hand_over(place / "app.db", place / "backups", USER)

    given = {str(p.relative_to(place)) for p in (place, *place.rglob("*")) if owner(p)[0] == UID}
    assert given == {
        ".",
        "app.db",
        "app.db-wal",
        "app.db-shm",
        "app.db-journal",
        "app.db.migrator",
        "app.db.migrator/lock",
        "app.db.migrator/failed",
        "app.db.migrator/failed/app.db",
        "backups",
        "backups/app.db-000001-20250101T000000Z.db",
        "backups/app.db-000001-20250101T000000Z.db.json",
    }
    assert owner(place / "app.db") == (UID, GID)


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "given"),
    [
        (None, True),
        (".gitignore", True),
        ("lost+found", True),
        ("other-app.db-000001-20250101T000000Z.db", True),
        (".app.db-000001-20250101T000000Z.db.json.partial", True),
        ("passwd", False),
        ("app.db", False),
        ("notes-1.txt", False),
    ],
)
def test_a_backup_directory_elsewhere_is_given_only_where_it_is_for_backups(
    place: Path, name: str | None, given: bool
) -> None:
    """One that was named by mistake, such as /etc, is root's for others as well."""
    elsewhere = place.parent / "elsewhere"
    elsewhere.mkdir()
    if name is not None:
        (elsewhere / name).touch()

    ownership.hand_over(place / "app.db", elsewhere, USER)

    assert owner(elsewhere) == ((UID, GID) if given else (0, 0))
    assert all(owner(path) == (0, 0) for path in elsewhere.iterdir() if "app.db-" not in path.name)


@pytest.mark.root
def test_modes_never_change(place: Path) -> None:
    """Only owners change; what was closed stays closed."""
    (place / "app.db").chmod(0o640)
    place.chmod(0o750)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert (place / "app.db").stat().st_mode & 0o7777 == 0o640
    assert place.stat().st_mode & 0o7777 == 0o750


@pytest.mark.root
def test_a_directory_of_somebody_else_stays_theirs(place: Path) -> None:
    """The directory is given only when root owns it; the database is given from anybody."""
    os.chown(place, 4321, 4321)
    os.chown(place / "app.db", 4321, 4321)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert owner(place) == (4321, 4321)
    assert owner(place / "app.db") == (UID, GID)


@pytest.mark.root
def test_a_directory_like_tmp_stays_roots(place: Path) -> None:
    """A directory that everybody may write with the sticky bit is nobody's to be given."""
    place.chmod(0o1777)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert owner(place) == (0, 0)
    assert owner(place / "app.db") == (UID, GID)


@pytest.mark.root
def test_the_owner_keeps_its_group(place: Path) -> None:
    """What belongs to the user already is not touched, whatever its group."""
    os.chown(place / "app.db", UID, 777)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert owner(place / "app.db") == (UID, 777)


@pytest.mark.root
@pytest.mark.parametrize("name", ["app.db-wal", "app.db.migrator/lock"])
def test_links_and_special_files_are_not_followed(place: Path, name: str) -> None:
    """A symbolic link, a second name or a pipe in a file's place gives nothing away."""
    victim = place.parent / "victim"
    victim.touch()
    target = place / name

    makers: tuple[Callable[[], None], ...] = (
        lambda: target.symlink_to(victim),
        lambda: os.link(victim, target),
        lambda: os.mkfifo(target),
    )
    for make in makers:
        target.unlink()
        make()
        ownership.hand_over(place / "app.db", place / "backups", USER)
        assert owner(victim) == (0, 0)
        assert owner(target) == (0, 0)


@pytest.mark.root
def test_our_directory_as_a_link_is_not_followed(place: Path) -> None:
    """A link in the place of our directory leads root nowhere."""
    victim = place.parent / "victim"
    (place / "app.db.migrator").rename(victim)
    (place / "app.db.migrator").symlink_to(victim)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert owner(victim) == (0, 0)
    assert owner(victim / "lock") == (0, 0)


@pytest.mark.root
def test_a_link_of_the_user_leads_to_no_other_file(place: Path) -> None:
    """Where the user made the database's path a link, root's file behind it stays root's: 77."""
    victim = place.parent / "victim"
    victim.touch()
    (place / "app.db").unlink()
    (place / "app.db").symlink_to(victim)
    os.lchown(place / "app.db", UID, GID)

    with pytest.raises(NoPermissionError, match="not root's") as caught:
        ownership.hand_over(victim, place / "backups", USER, given=place / "app.db")

    assert owner(victim) == (0, 0)
    assert caught.value.exit_code == 77


@pytest.mark.root
def test_a_link_of_root_is_followed(place: Path) -> None:
    """An operator's own link to the volume counts as the path that it leads to."""
    link = place.parent / "link"
    link.symlink_to("data")

    ownership.hand_over(place / "app.db", link / "backups", USER, given=link / "app.db")

    assert owner(place / "app.db") == (UID, GID)
    assert owner(place / "backups") == (UID, GID)


@pytest.mark.root
def test_a_link_of_the_user_to_its_own_file_is_right(place: Path) -> None:
    """A user's link to a file that is the user's already needs nothing, and is no error."""
    (place / "app.db").rename(place / "real.db")
    (place / "app.db").symlink_to("real.db")
    for path in (place, place / "real.db", place / "app.db"):
        os.lchown(path, UID, GID)

    ownership.hand_over(place / "real.db", place / "backups", USER, given=place / "app.db")

    assert owner(place / "real.db") == (UID, GID)


@pytest.mark.root
def test_the_users_link_in_place_of_the_backups_is_not_followed(place: Path) -> None:
    """A backup directory that the user replaced by a link gives nothing of its target away."""
    victim = place.parent / "victim"
    (place / "backups").rename(victim)
    (place / "backups").symlink_to(victim)
    os.lchown(place / "backups", UID, GID)

    ownership.hand_over(place / "app.db", place / "backups", USER)

    assert {owner(path) for path in (victim, *victim.iterdir())} == {(0, 0)}


@pytest.mark.root
def test_links_in_a_circle_end(place: Path) -> None:
    """A path that leads in a circle gives nothing away and ends."""
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")

    ownership.hand_over(place / "x", place / "backups", USER, given=place / "a" / "x")

    assert owner(place / "app.db") == (0, 0)


@pytest.mark.root
def test_a_missing_place_is_no_error(tmp_path: Path, as_root: None) -> None:
    """Before the volume is there, nothing is to be given and nothing is made."""
    ownership.hand_over(tmp_path / "x" / "app.db", tmp_path / "x" / "backups", USER)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_without_the_capability_the_error_names_it(place: Path) -> None:
    """Root that may not change owners ends in 77, with the option that helps."""
    code = f"""
try:
    ownership.hand_over(Path(sys.argv[1]) / "app.db", Path("/none"), {USER!r})
except MigratorError as error:
    result = [error.exit_code, error.message, error.hint]
"""
    found = run(code, place, prefix=["setpriv", "--bounding-set", "-chown"])

    assert found[0] == 77
    assert f"could not be given to {UID}:{GID}" in found[1]
    assert "--cap-add CHOWN" in found[2]


@pytest.mark.root
def test_without_the_capability_what_is_open_already_is_enough(place: Path) -> None:
    """Where everybody may use the files already, a refused change of owner is no error."""
    for path in (place, *place.rglob("*")):
        path.chmod(0o777)

    run(
        f"ownership.hand_over(Path(sys.argv[1]) / 'app.db', Path('/none'), {USER!r})",
        place,
        prefix=["setpriv", "--bounding-set", "-chown"],
    )

    assert owner(place / "app.db") == (0, 0)


@pytest.mark.root
def test_a_read_only_volume_is_left_alone(place: Path) -> None:
    """Owners on a read-only volume cannot change, which a start without a run survives."""
    script = f"""
mount --bind {place} {place} && mount -o remount,ro,bind {place} && exec "$0" -c '
from pathlib import Path
from entrypoint import ownership
from entrypoint.identities import User
ownership.hand_over(Path("{place}/app.db"), Path("{place}/backups"), {USER!r})
'"""
    subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable], env=clean_environment(), check=True
    )

    assert owner(place / "app.db") == (0, 0)


# --- Dropping ---


@pytest.mark.root
def test_dropping_leaves_nothing_of_root(as_root: None) -> None:
    """Afterwards every id is the user's, no group and no capability is left."""
    code = f"""
os.setgroups([0, 4])
privileges.drop({USER!r})
result = status()
"""
    found = run(code)

    assert found["Uid"] == [str(UID)] * 4
    assert found["Gid"] == [str(GID)] * 4
    assert found["Groups"] == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[name][0], 16) == 0, name


@pytest.mark.root
def test_there_is_no_way_back(as_root: None) -> None:
    """After dropping neither root's user nor its group can be had again."""
    code = f"""
privileges.drop({USER!r})
result = []
for attempt in (os.setuid, os.seteuid, os.setgid, os.setegid):
    try:
        attempt(0)
    except PermissionError:
        result.append("refused")
"""
    assert run(code) == ["refused"] * 4


@pytest.mark.root
def test_capabilities_that_were_kept_on_purpose_are_dropped_too(as_root: None) -> None:
    """Not even securebits that keep capabilities over a change of user keep them here."""
    prefix = ["setpriv", "--securebits", "+no_setuid_fixup", "--inh-caps", "+chown"]
    code = f"privileges.drop({USER!r})\nresult = status()"

    found = run(code, prefix=[*prefix, "--ambient-caps", "+chown"])

    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[name][0], 16) == 0, name


@pytest.mark.root
def test_a_way_back_is_a_bug(as_root: None) -> None:
    """If root could be regained, nothing is started: 70."""
    code = f"""
privileges._clear_capabilities = lambda: None
try:
    privileges.drop({USER!r})
except MigratorError as error:
    result = [error.exit_code, error.message]
"""
    found = run(code, prefix=["setpriv", "--securebits", "+no_setuid_fixup"])

    assert found[0] == 70
    assert "could be regained" in found[1]


@pytest.mark.root
def test_dropping_from_within_acting_is_for_good(as_root: None) -> None:
    """The worker of `keep` becomes the user wholly from where it acts as it."""
    code = f"""
with privileges.acting_as({USER!r}):
    child = os.fork()
    if child == 0:
        privileges.drop({USER!r})
        ids = os.getresuid() == ({UID},) * 3 and os.getresgid() == ({GID},) * 3
        os._exit(0 if ids and not os.getgroups() else 1)
    result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    assert run(code) == 0


@pytest.mark.root
def test_root_that_is_to_stay_root_stays(as_root: None) -> None:
    """`--run-as 0:0` changes nothing."""
    before = sorted(os.getgroups())

    found = run("privileges.drop(User(0, 0))\nresult = status()")

    assert found["Uid"] == ["0"] * 4
    assert sorted(map(int, found["Groups"])) == before


@pytest.mark.root
@pytest.mark.parametrize("missing", ["-setuid", "-setgid"])
@pytest.mark.parametrize("what", ["privileges.drop({0!r})", "acting"])
def test_root_without_the_capability_is_77(missing: str, what: str, as_root: None) -> None:
    """With `--cap-drop ALL` root cannot become anybody, and the hint names the options."""
    action = what.format(USER)
    if what == "acting":
        action = f"with privileges.acting_as({USER!r}): pass"
    code = f"""
try:
    {action}
except MigratorError as error:
    result = [error.exit_code, error.reason, error.hint, os.getresuid(), os.getresgid()]
"""
    found = run(code, prefix=["setpriv", "--bounding-set", missing])

    assert found[:2] == [77, "privileges.denied"]
    assert "--cap-add SETUID --cap-add SETGID --cap-add CHOWN" in found[2]
    if what == "acting":
        assert found[3:] == [[0, 0, 0], [0, 0, 0]]


# --- Acting ---


@pytest.mark.root
def test_acting_and_being_oneself_again(as_root: None) -> None:
    """Within, access is the user's; afterwards ids, groups and capabilities are as before."""
    code = f"""
os.setgroups([0, 7, 4])
before = status()
with privileges.acting_as({USER!r}):
    within = status()
    try:
        open("/proc/1/environ").close()
        closed = False
    except PermissionError:
        closed = True
after = status()
same = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapAmb", "CapBnd")
result = [[within[name] for name in ("Uid", "Gid", "Groups", "CapEff")], closed,
          all(before[name] == after[name] for name in same)]
"""
    within, closed, same = run(code)

    assert within == [
        ["0", str(UID), "0", str(UID)],
        ["0", str(GID), "0", str(GID)],
        [],
        ["0000000000000000"],
    ]
    assert closed is True
    assert same is True


@pytest.mark.root
def test_an_exception_ends_acting_too(as_root: None) -> None:
    """Whatever ends the block, root is root again."""
    code = f"""
try:
    with privileges.acting_as({USER!r}):
        raise KeyError
except KeyError:
    result = [os.getresuid(), os.getresgid()]
"""
    assert run(code) == [[0, 0, 0], [0, 0, 0]]


def test_acting_as_oneself_is_nothing() -> None:
    """Without a change of user nothing is called."""
    before = os.getresuid(), os.getresgid(), os.getgroups()

    with privileges.acting_as(User(os.geteuid(), os.getegid())):
        assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.root
@pytest.mark.usefixtures("other_user")
def test_the_runs_user_gets_its_files_and_looks(place: Path) -> None:
    """What is looked at within is the user's already, and is seen as the user."""
    code = f"""
from entrypoint.identities import Identities
from entrypoint.volume.wait import as_run_user
from migrator.database.workspace import Layout
from migrator.model import Settings
settings, place = Settings(Path(sys.argv[1]) / "app.db"), Path(sys.argv[1])
os.chmod(place / "app.db", 0o600)
with as_run_user(Identities(run={USER!r}), settings, Layout.of(settings)):
    result = [os.geteuid(), os.access(place / "app.db", os.W_OK, effective_ids=True)]
"""
    assert run(code, place) == [UID, True]


# --- Who it is ---

ADA, KEEP, KEEP_AS_ADA = (
    User(1000, 1001),
    RunAs(None, keep=True),
    RunAs(User(1000, 1001), keep=True),
)


@pytest.mark.parametrize(
    ("asked", "root", "expected"),
    [
        (None, True, Identities()),
        (None, False, Identities()),
        (RunAs(ADA), True, Identities(run=ADA, app=ADA)),
        (RunAs(ADA), False, Identities(denied=ADA)),
        (KEEP, True, Identities(run_as_owner=True)),
        (KEEP, False, Identities()),
        (KEEP_AS_ADA, True, Identities(run=ADA)),
        (KEEP_AS_ADA, False, Identities()),
    ],
)
def test_who_the_run_and_the_application_are(
    asked: RunAs | None, root: bool, expected: Identities
) -> None:
    """Both are the user asked for; with `keep` the run alone; without root neither."""
    assert Identities.resolve(asked, root=root) == expected


def test_home_and_groups_come_from_the_user_database() -> None:
    """Root has a home; a user without a name has `/` and no groups."""
    assert identities.home_of(User(0, 0)) == "/root"
    assert identities.home_of(User(54321, 54321)) == "/"
    assert identities.other_groups(User(54321, 54321)) == []


def test_groups_of_a_named_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a name has the groups that the group database gives, the primary one aside."""
    import pwd

    entry = pwd.struct_passwd(("ada", "x", 1000, 1000, "", "/home/ada", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, 44, 29])

    assert identities.other_groups(User(1000, 1000)) == [29, 44]
    assert identities.home_of(User(1000, 1000)) == "/home/ada"


@pytest.mark.root
def test_the_owner_is_the_databases_or_its_directorys(place: Path) -> None:
    """`keep` acts as the database's owner, and before there is one as the directory's."""
    os.chown(place / "app.db", 1, 2)
    os.chown(place, 3, 4)

    assert identities.owner_of(place / "app.db") == User(1, 2)
    assert identities.owner_of(place / "new.db") == User(3, 4)
    assert identities.owner_of(place / "x" / "new.db") == User(os.geteuid(), os.getegid())


# --- Not root ---


@pytest.mark.root
def test_another_user_than_we_are_is_warned_about(as_root: None) -> None:
    """Not being root, the warning names both users and the compose lines that help."""
    code = f"""
result = []
emit = lambda event, message, **fields: result.append([event, message, fields])
privileges.drop(User(1000, 1000))
privileges.warn_unless_same({USER!r}, emit)
"""
    ((event, message, fields),) = run(code)

    assert (event, fields["level"]) == ("privileges.not_root", "warning")
    assert fields["asked"] == f"{UID}:{GID}"
    assert fields["actual"] == "1000:1000"
    for text in (f"{UID}:{GID}", "1000:1000", f'user: "{UID}:{GID}"', 'user: "0:0"'):
        assert text in message


@pytest.mark.parametrize("other_group", [False, True])
def test_the_same_user_is_not_warned_about(
    monkeypatch: pytest.MonkeyPatch, other_group: bool
) -> None:
    """Being who was asked for, also by a supplementary group, nothing is said."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1 if other_group else 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    said: list[str] = []

    privileges.warn_unless_same(User(1000, 1000), lambda event, *_a, **_k: said.append(event))

    assert said == []
