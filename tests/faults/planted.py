"""
Bugs that are planted into packages beside the real ones, for the harness to find.

They are patches of the text, applied in tests; the shipped code knows nothing of them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import PACKAGES

_UNFINISHED = "*.pyc.[0-9]*"
"""What another process is compiling, before it gets its name."""


@dataclass(frozen=True, slots=True)
class Bug:
    """
    One planted bug.

    Args:
        name: What is wrong.
        file: The module, relative to the packages.
        old: The text that is replaced; it must be there exactly once.
        new: What takes its place.
        scene: In which scene it shows.
        actions: With which faults.
        calls: At which calls it is looked for: how their names and paths end.
        late: Whether the last of these calls come first; otherwise the middle ones.
    """

    name: str
    file: str
    old: str
    new: str
    scene: str
    actions: tuple[str, ...]
    calls: tuple[str, ...]
    late: bool = False

    def plant(self, directory: Path) -> Path:
        """Lay out the packages as they are compiled, with the bug, and return where they lie."""
        text = (PACKAGES / self.file).read_text()
        assert text.count(self.old) == 1, f"{self.file} has not exactly one {self.old!r}."
        directory.mkdir(parents=True, exist_ok=True)
        for package in ("migrator", "entrypoint"):
            _lay_out(PACKAGES / package, directory / package, directory / self.file)
        (directory / self.file).write_text(text.replace(self.old, self.new))
        return directory


def _lay_out(packages: Path, place: Path, changed: Path) -> None:
    """Link to what stays as it is; what is about the changed module is in directories of its own."""
    if not changed.is_relative_to(place):
        place.symlink_to(packages)
        return
    place.mkdir()
    for each in packages.iterdir():
        at = place / each.name
        if each.name == "__pycache__" and changed.parent == place:
            left_out = shutil.ignore_patterns(_UNFINISHED, f"{changed.stem}.*")
            shutil.copytree(each, at, ignore=left_out)
        elif at != changed:
            _lay_out(each, at, changed)


BUGS = (
    Bug(
        "the restore is a bare file copy",
        "migrator/recovery/copy_back.py",
        "        write_pages(source, live.conn)\n",
        "        with audit_hook.allowed(), open(live.path, 'wb', 0) as target:\n"
        "            data = chosen.path.read_bytes()\n"
        "            for at in range(0, len(data), 1024):\n"
        "                target.write(data[at : at + 1024])\n",
        "restore delete clean",
        ("all-before",),
        ("write app.db",),
    ),
    Bug(
        "the guard runs without a journal",
        "migrator/session/guard.py",
        '    connection._execute("PRAGMA synchronous=EXTRA")\n',
        '    connection._execute("PRAGMA journal_mode=OFF")\n'
        '    connection._execute("PRAGMA synchronous=OFF")\n',
        "up in-place delete clean",
        ("all-before", "torn"),
        ("pwrite app.db",),
    ),
    Bug(
        "a migration's COMMIT commits",
        "migrator/session/authorizer.py",
        'return sqlite3.SQLITE_IGNORE if first != "ROLLBACK" else _ROLLBACK',
        'return sqlite3.SQLITE_OK if first == "COMMIT"'
        ' else sqlite3.SQLITE_IGNORE if first != "ROLLBACK" else _ROLLBACK',
        "up in-place wal clean",
        ("all-after",),
        ("fdatasync app.db-wal", "pwrite app.db-wal", "pwrite app.db"),
    ),
    Bug(
        "the phase is not noted before the pages are published",
        "migrator/strategy/on_copy.py",
        '        enter(ctx, "publish", noted)\n',
        '        enter(ctx, "publish")\n',
        "up copy mode delete clean",
        ("all-before",),
        ("pwrite app.db", "unlink app.db-journal", "fdatasync app.db"),
        late=True,
    ),
    Bug(
        "the journal mode is not put back after a crash",
        "migrator/recovery/after_crash.py",
        '        if wanted and left.way == "copy":\n',
        '        if wanted and left.way == "never":\n',
        "up copy page_size wal clean",
        ("all-before",),
        ("pwrite app.db", "unlink app.db-journal"),
        late=True,
    ),
    Bug(
        "a first install is copied into place",
        "migrator/strategy/new_file.py",
        "        os.link(new, database, follow_symlinks=False)\n",
        "        import shutil\n"
        "        from migrator.process import audit_hook as protection\n"
        "        with protection.allowed(), new.open('rb') as a, database.open('wb', 0) as b:\n"
        "            shutil.copyfileobj(a, b, 1024)\n",
        "install in-place",
        ("all-before", "torn"),
        ("write app.db",),
    ),
    Bug(
        "what cannot be tidied up fails the run",
        "migrator/recovery/rollback.py",
        "    with contextlib.suppress(OSError, MigratorError):\n        remove_temporary_files(",
        "    if True:\n        remove_temporary_files(",
        "up in-place delete clean",
        ("error-once:EIO",),
        ("unlinkat app.db.migrator/state.json", "fsync app.db.migrator"),
    ),
    Bug(
        "work files stay after a crash",
        "migrator/recovery/temporary_files.py",
        "    clean_home(layout)\n",
        "    del layout\n",
        "up copy delete clean",
        ("all-after",),
        ("work.db",),
    ),
    Bug(
        "the authorizer is removed",
        "migrator/session/guarded.py",
        "        sqlite3.Connection.set_authorizer(self, self._authorize)\n",
        "        pass\n",
        "up in-place wal clean",
        ("all-after",),
        ("pwrite app.db-wal", "pwrite app.db"),
    ),
    Bug(
        "a worker that was killed is taken for one that was done",
        "migrator/engine/conclusion.py",
        '        if confirmed and (settled is None or settled.kind != "postponed"):\n',
        "        if confirmed or settled is not None:\n",
        "up in-place delete clean",
        ("worker-before",),
        ("pwrite app.db-journal",),
    ),
    Bug(
        "a commit whose last sync failed is taken for undone",
        "migrator/recovery/rollback.py",
        '    if ctx.progress.phase not in ("commit", "publish"):\n',
        '    if ctx.progress.phase != "never":\n',
        "up beside delete clean",
        ("error-once:EIO",),
        ("fdatasync .",),
        late=True,
    ),
    Bug(
        "the backup is a plain copy of the file",
        "migrator/backups/create.py",
        "            copy_pages(self.source, slot.partial, ownership, report.progress)\n",
        "            import shutil\n"
        "            from migrator.process import audit_hook as protection\n"
        "            with protection.allowed():\n"
        "                shutil.copyfile(self.layout.database, slot.partial)\n",
        "up beside wal hot",
        ("all-after",),
        ("pwrite app.db-wal",),
    ),
    Bug(
        "every attempt makes a backup of its own",
        "migrator/backup_step.py",
        "same = create.same_state(ctx.layout, live.raw, facts) if live.raw is not None else None",
        "same = None",
        "up in-place delete clean",
        ("all-after",),
        ("pwrite app.db-journal",),
    ),
    Bug(
        "the outcome is called unknown before the commit",
        "migrator/recovery/rollback.py",
        '    if ctx.progress.phase in ("commit", "publish"):\n        return OutcomeUnknownError(',
        "    if True:\n        return OutcomeUnknownError(",
        "up in-place delete clean",
        ("error-on:EIO",),
        ("pwrite app.db", "pwrite app.db-journal"),
    ),
    Bug(
        "a disk that fails is called a permission that lacks",
        "migrator/log/translate.py",
        "_DENIED = (errno.EACCES, errno.EPERM)\n",
        "_DENIED = (errno.EACCES, errno.EPERM, errno.EIO)\n",
        "up in-place delete clean",
        ("error-once:EIO",),
        ("app.db.migrator/.state.json.tmp",),
    ),
    Bug(
        "a full disk is called a database that is read-only",
        "migrator/log/translate.py",
        "    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):\n",
        "    if code == sqlite3.SQLITE_CANTOPEN:\n",
        "up copy mode wal clean",
        ("error-on:ENOSPC",),
        ("pwrite app.db.migrator/work.db",),
    ),
    Bug(
        "the API looks only at what is pending",
        "migrator/run.py",
        "    return nothing_to_do(found, emit) if found.up_to_date else None\n",
        "    return nothing_to_do(found, emit) if not found.pending else None\n",
        "inline up in-place wal clean",
        ("all-before",),
        ("unlinkat app.db.migrator/state.json", "unlink app.db.migrator/state.json"),
        late=True,
    ),
    Bug(
        "a run in its caller's process notes nothing",
        "migrator/recovery/phases.py",
        "    if noted is None:\n",
        "    if noted is None or ctx.inline:\n",
        "inline up copy delete clean",
        ("all-before",),
        ("pwrite app.db", "unlink app.db-journal", "fdatasync app.db"),
        late=True,
    ),
    Bug(
        "every attempt of the API makes a backup of its own",
        "migrator/backup_step.py",
        "                dedupe=live.raw is None,\n",
        "                dedupe=False,\n",
        "inline up copy delete clean",
        ("all-after",),
        ("pwrite app.db.migrator/work.db",),
    ),
    Bug(
        "a failed run leaves its connection open, in a transaction",
        "migrator/run.py",
        "    with contextlib.closing(open_exclusive(ctx, hint, header=work.header)) as live:\n",
        "    globals()['kept'] = live = open_exclusive(ctx, hint, header=work.header)\n"
        "    with contextlib.ExitStack() as stack:\n"
        "        stack.push(lambda kind, *_: kind and live.guard.begin())\n",
        "inline again up in-place delete clean",
        ("error-once:ENOSPC",),
        ("pwrite app.db-journal",),
    ),
    Bug(
        "a failed run of the API keeps the lock",
        "migrator/api.py",
        "        finally:\n            lock.release()\n",
        "        finally:\n            globals()['kept'] = lock\n",
        "inline again up in-place delete clean",
        ("error-once:ENOSPC",),
        ("pwrite app.db-journal",),
    ),
)
