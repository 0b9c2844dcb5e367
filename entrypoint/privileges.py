"""
Become another user: for a while, or for good.

`drop` follows credentials(7) and capabilities(7): groups first, then the group,
then the user, each real, effective and saved; then it proves that root cannot
be regained.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from entrypoint.identities import User, other_groups
from migrator.errors import MigratorError, NoPermissionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.model import Emit

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522


def is_root() -> bool:
    """Tell whether this process may become another user."""
    return os.geteuid() == 0


def warn_unless_same(user: User, emit: Emit) -> None:
    """Warn about a user that was asked for and that only root can become."""
    ours = User(os.geteuid(), os.getegid())
    if ours.uid == user.uid and (ours.gid == user.gid or user.gid in os.getgroups()):
        return
    emit(
        "privileges.not_root",
        f"The application was to run as {user}, but this process is {ours}, and only root can"
        f" become another user: it stays {ours}. Start the container as that user"
        f' (compose: `user: "{user}"`, `docker run --user {user}`), or as root'
        ' (`user: "0:0"`) so that PUID and PGID work.',
        level="warning",
        asked=str(user),
        actual=str(ours),
    )


@contextlib.contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """
    Act as another user within, if there is one; afterwards ids and groups are as before.

    Raises:
        NoPermissionError: The container dropped the capabilities that this takes.
    """
    before, groups = User(os.geteuid(), os.getegid()), os.getgroups()
    if user is None or user == before or not is_root():
        yield
        return
    try:
        with _missing_capability(user):
            _set_groups(other_groups(user))
            # Only the effective ids, which decide on access to files and on `kill`: the real
            # and the saved user stay root, for the way back.
            os.setegid(user.gid)
            os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(before.uid)
        os.setegid(before.gid)
        _set_groups(groups)


@contextlib.contextmanager
def become_run_user(
    user: User | None, *, root_again: bool, emit: Emit
) -> Iterator[Callable[[], None]]:
    """
    Become the run's user: within, if the application starts as root, else for good.

    Args:
        user: None for the current user.
        root_again: Whether the application starts as root.
        emit: Gets `privileges.dropped`.

    Yields:
        A function for the worker to call first: it becomes that user for good.
    """
    if user is None:
        yield lambda: None
    elif root_again:
        with acting_as(user):
            yield lambda: drop(user)
    else:
        drop(user)
        emit(
            "privileges.dropped",
            f"The run and the application run as {user}.",
            level="debug",
            uid=user.uid,
            gid=user.gid,
        )
        yield lambda: None


def drop(user: User) -> None:
    """
    Become a user for good, and prove that root cannot be regained.

    Raises:
        NoPermissionError: The container dropped the capabilities that this takes.
        MigratorError: Root could be regained.
    """
    if 0 not in os.getresuid():
        return
    if os.getuid() == 0 and os.geteuid() != 0:
        # Within `acting_as`: only root may change the groups.
        os.seteuid(0)
    with _missing_capability(user):
        _set_groups(other_groups(user))
        if os.getresgid() != (user.gid,) * 3:
            os.setresgid(user.gid, user.gid, user.gid)
        if os.getresuid() != (user.uid,) * 3:
            os.setresuid(user.uid, user.uid, user.uid)
    if user.uid != 0:
        _clear_capabilities()
        _check_dropped(user)


def _set_groups(groups: list[int]) -> None:
    """Set the supplementary groups if they differ: setting them takes a capability."""
    if sorted(os.getgroups()) != sorted(groups):
        os.setgroups(groups)


@contextlib.contextmanager
def _missing_capability(user: User) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        msg = (
            f"Root cannot become {user} here ({error.strerror}):"
            " the container runs without the capabilities SETUID and SETGID."
        )
        hint = (
            "Start it with `docker run --cap-add SETUID --cap-add SETGID --cap-add CHOWN …`"
            " (compose: `cap_add: [SETUID, SETGID, CHOWN]`), or as that user:"
            f" `docker run --user {user} …`."
        )
        raise NoPermissionError(msg, hint=hint, reason="privileges.denied") from error


def _clear_capabilities() -> None:
    """
    Empty the ambient, inheritable, permitted and effective sets.

    Becoming another user empties most of them, unless the securebits forbid it.
    The bounding set stays as `docker run --user` leaves it: a program with file
    capabilities must be able to start.
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
    """Tell whether one of these sets is not empty; False without /proc."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
            values = dict(line.split(":", 1) for line in lines if line.startswith("Cap"))
    except OSError:
        return False
    return any(int(values.get(name, "0"), 16) for name in sets)


def _check_dropped(user: User) -> None:
    """Raise unless every id is the user's and root cannot be regained."""
    wrong = os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3
    wrong = wrong or sorted(os.getgroups()) != other_groups(user)
    wrong = wrong or _holds_capabilities(("CapPrm", "CapEff", "CapAmb"))
    if not wrong:
        try:
            os.setuid(0)
        except OSError:
            return
    msg = f"Root's privileges could be regained after becoming {user}; nothing was started."
    raise MigratorError(msg, hint="Please report this, with the container's security options.")
