"""Who the run is, and who the application is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from migrator.value import Value


class User(Value):
    """A user and its group, by number."""

    uid: int
    gid: int

    def __str__(self) -> str:
        """Return `UID:GID`."""
        return f"{self.uid}:{self.gid}"


class RunAs(Value):
    """
    What `--run-as`, or `PUID` and `PGID`, ask for.

    With `keep` the application is root and `user` is for the run alone, None
    for the owner of the database. Without `keep`, `user` is for both.
    """

    user: User | None
    keep: bool = False


class Identities(Value):
    """
    Who the run is and who the application is; None means the current user.

    Attributes:
        run: The user of the run.
        app: The user of the application.
        run_as_owner: The run is the database's owner, known once the volume is there.
        denied: The user that was asked for and that only root could become.
    """

    run: User | None = None
    app: User | None = None
    run_as_owner: bool = False
    denied: User | None = None

    @classmethod
    def resolve(cls, asked: RunAs | None, *, root: bool) -> Identities:
        """Decide who both are; only root can become another user."""
        if asked is None:
            return cls()
        if not root:
            return cls(denied=None if asked.keep else asked.user)
        if asked.keep:
            return cls(run=asked.user, run_as_owner=asked.user is None)
        return cls(run=asked.user, app=asked.user)

    def run_on(self, database: Path) -> User | None:
        """Return the user of the run on this database."""
        return owner_of(database) if self.run_as_owner else self.run


def owner_of(database: Path) -> User:
    """Return the owner of a database, or of its directory if the database does not exist."""
    for path in (database, database.parent):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            return User(found.st_uid, found.st_gid)
    return User(os.geteuid(), os.getegid())


def primary_group(uid: int) -> int:
    """Return a user's primary group; for a user without an entry, the user's own number."""
    # A start without --run-as and PUID does not need this module.
    import pwd

    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def other_groups(user: User) -> list[int]:
    """Return a user's supplementary groups by the group database."""
    import pwd

    if user.uid == 0:
        return sorted(os.getgroups())
    try:
        name = pwd.getpwuid(user.uid).pw_name
    except KeyError:
        return []
    return sorted(set(os.getgrouplist(name, user.gid)) - {user.gid})


def home_of(user: User) -> str:
    """Return a user's home directory, `/` for a user without an entry."""
    import pwd

    try:
        return pwd.getpwuid(user.uid).pw_dir or "/"
    except KeyError:
        return "/"
