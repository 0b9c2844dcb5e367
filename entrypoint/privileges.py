"""
Who we are, who the application is to be, and what is given to it on the way.

Dropping follows credentials(7) and capabilities(7): groups first, then the
group, then the user, for each of the real, effective and saved ids, and then
the proof that there is no way back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.errors import MigratorError, NoPermissionError

if TYPE_CHECKING:
    from migrator.model import Emit

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522


def is_root() -> bool:
    """Tell whether this process may become another user."""
    return os.geteuid() == 0


def owner_of(database: Path) -> tuple[int, int]:
    """Return whose a database is (uid, gid); where there is none, whose its directory is."""
    for path in (database, database.parent):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            return found.st_uid, found.st_gid
    return os.geteuid(), os.getegid()


def home_of(uid: int) -> str:
    """Return a user's home directory, `/` for one that the user database does not know."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir or "/"
    except KeyError:
        return "/"


def groups_of(uid: int, gid: int) -> list[int]:
    """Return the supplementary groups that the group database gives a user, often none."""
    import pwd

    if uid == 0:
        return sorted(os.getgroups())
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return []
    return sorted(set(os.getgrouplist(name, gid)) - {gid})


def warn_unless_same(uid: int, gid: int, emit: Emit) -> None:
    """Say that another user was asked for and that only root can become another user."""
    ours, our_group = os.geteuid(), os.getegid()
    if ours == uid and (our_group == gid or gid in os.getgroups()):
        return
    emit(
        "privileges.not_root",
        f"The application was to run as {uid}:{gid}, but this process was started as"
        f" {ours}:{our_group} and only root can become another user; it stays {ours}:{our_group}."
        f' Start the container as that user (compose: `user: "{uid}:{gid}"`,'
        f" `docker run --user {uid}:{gid}`), or as root"
        ' (`user: "0:0"`) so that PUID and PGID work.',
        level="warning",
        asked=f"{uid}:{gid}",
        actual=f"{ours}:{our_group}",
    )


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """
    Act as another user within, then be exactly who we were: ids and groups.

    The effective ids decide on access to files and on `kill`; the real and the
    saved user stay root, which is the way back.

    Raises:
        NoPermissionError: Root may not do that here (dropped capabilities).
    """
    if (uid, gid) == (os.geteuid(), os.getegid()) or not is_root():
        yield
        return
    groups, group, user = os.getgroups(), os.getegid(), os.geteuid()
    try:
        with _missing_capability(uid, gid):
            _set_groups(groups_of(uid, gid))
            os.setegid(gid)
            os.seteuid(uid)
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)
        _set_groups(groups)


@contextlib.contextmanager
def admitting(
    database: Path, backup_dir: Path, uid: int, gid: int, *, given: Path | None = None
) -> Iterator[None]:
    """
    Hand the files over to a user, then act as that user within.

    For `volume.inspect(admit=...)`: what it looks at is then seen as the user
    that will run the application sees it.
    """
    if is_root():
        # Imported only here: most containers are not started as root.
        from entrypoint import ownership

        ownership.hand_over(database, backup_dir, uid, gid, given=given)
    with acting_as(uid, gid):
        yield


def drop(uid: int, gid: int) -> None:
    """
    Become a user for good, and prove that there is no way back.

    Raises:
        NoPermissionError: Root may not do that here (dropped capabilities).
        MigratorError: Privileges could be regained afterwards.
    """
    if 0 not in os.getresuid():
        return
    with _missing_capability(uid, gid):
        _set_groups(groups_of(uid, gid))
        if os.getresgid() != (gid, gid, gid):
            os.setresgid(gid, gid, gid)
        if os.getresuid() != (uid, uid, uid):
            os.setresuid(uid, uid, uid)
    if uid != 0:
        _clear_capabilities()
        _prove(uid, gid)


def drop_for_good(uid: int, gid: int) -> None:
    """Do what `drop` does from within `acting_as`: be root again first."""
    if os.getresuid()[0] == 0 and os.geteuid() != 0:
        os.seteuid(0)
    drop(uid, gid)


def _set_groups(groups: list[int]) -> None:
    """Set the supplementary groups, unless they are so already (it takes a capability)."""
    if sorted(os.getgroups()) != sorted(groups):
        os.setgroups(groups)


@contextlib.contextmanager
def _missing_capability(uid: int, gid: int) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        msg = (
            f"Root may not become {uid}:{gid} here ({error.strerror}):"
            " the container runs without the capabilities SETUID and SETGID."
        )
        hint = (
            "Start it with `docker run --cap-add SETUID --cap-add SETGID --cap-add CHOWN …`"
            " (compose: `cap_add: [SETUID, SETGID, CHOWN]`), or at once as that user:"
            f" `docker run --user {uid}:{gid} …`."
        )
        raise NoPermissionError(msg, hint=hint, reason="privileges.denied") from error


def _clear_capabilities() -> None:
    """
    Empty the ambient, inheritable, permitted and effective sets.

    Becoming another user empties most of them already, unless the securebits
    say otherwise. The bounding set stays as `docker run --user` leaves it: a
    program with file capabilities must be able to start.
    """
    if not _holds_capabilities():
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        libc.capset(header, (ctypes.c_uint32 * 6)())


def _holds_capabilities(sets: tuple[str, ...] = ("CapInh", "CapPrm", "CapEff", "CapAmb")) -> bool:
    """Tell whether one of these sets is not empty; unknown without /proc, so False."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
            values = dict(line.split(":", 1) for line in lines if line.startswith("Cap"))
    except OSError:
        return False
    return any(int(values.get(name, "0"), 16) for name in sets)


def _prove(uid: int, gid: int) -> None:
    """Raise unless every id is the user's and root cannot be had back."""
    wrong = os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid)
    wrong = wrong or sorted(os.getgroups()) != groups_of(uid, gid)
    wrong = wrong or _holds_capabilities(("CapPrm", "CapEff", "CapAmb"))
    if not wrong:
        try:
            os.setuid(0)
        except OSError:
            return
    msg = f"Root's privileges could be had back after becoming {uid}:{gid}; nothing was started."
    raise MigratorError(msg, hint="Please report this with the container's security options.")
