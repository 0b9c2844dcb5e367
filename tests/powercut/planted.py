"""Bugs that only a power cut shows: syncs left out of a copy of the packages."""

from __future__ import annotations

from tests.faults.planted import Bug


def _bug(name: str, file: str, old: str, new: str, scene: str, *operations: str) -> Bug:
    """Describe a bug; where it takes a start to show, after which operations, late in the run."""
    return Bug(name, file, old, new, scene, (), operations, late=bool(operations))


BUGS = (
    _bug(
        "the backup is not synced",
        "migrator/database/writeback.py",
        "        os.fsync(self.descriptor)\n",
        "        pass\n",
        "up in-place delete clean",
    ),
    _bug(
        "a backup through SQLite is not synced",
        "migrator/database/pages.py",
        "            os.fsync(descriptor)\n            return os.fstat(descriptor).st_size\n",
        "            return os.fstat(descriptor).st_size\n",
        "inline up in-place wal hot",
    ),
    _bug(
        "the names of the backup are not synced",
        "migrator/backups/pending.py",
        "backup.json_path)\n            fsync_directory(self.path.parent)\n",
        "backup.json_path)\n",
        "up in-place delete clean",
    ),
    _bug(
        "the guard runs with synchronous=OFF",
        "migrator/session/guard.py",
        "PRAGMA synchronous=EXTRA",
        "PRAGMA synchronous=OFF",
        "up in-place delete clean",
    ),
    _bug(
        "the pages are published without a sync",
        "migrator/strategy/on_copy.py",
        "        write_pages(work, live.conn)\n",
        "        live.conn.execute('PRAGMA synchronous=OFF')\n        write_pages(work, live.conn)\n",
        "up copy delete clean",
    ),
    _bug(
        "a restore is written back without a sync",
        "migrator/recovery/copy_back.py",
        "        write_pages(source, live.conn)\n",
        "        live.conn.execute('PRAGMA synchronous=OFF')\n        write_pages(source, live.conn)\n",
        "restore delete clean",
    ),
    _bug(
        "a first install is linked into place without a sync",
        "migrator/strategy/new_file.py",
        "        os.fsync(held)\n",
        "",
        "install copy",
    ),
    _bug(
        "the name of a first install is not synced",
        "migrator/strategy/new_file.py",
        "        fsync_directory(database.parent)\n",
        "        pass\n",
        "install in-place",
    ),
    _bug(
        "what is noted of the run is not synced",
        "migrator/files.py",
        "                os.fsync(descriptor)\n        finally:\n",
        "        finally:\n",
        "up in-place delete clean",
        "rename app.db.migrator/.state.json.tmp",
    ),
    _bug(
        "the name of what is noted of the run is not synced",
        "migrator/files.py",
        "    # A rename is durable only with its directory.\n    fsync_directory(path.parent)\n",
        "",
        "up copy mode delete clean",
        "remove app.db-journal",
    ),
    _bug(
        "the facts' own name is not synced before the backup's",
        "migrator/backups/pending.py",
        "        os.fsync(self.descriptor)\n        fsync_directory(self.path.parent)\n",
        "        os.fsync(self.descriptor)\n",
        "up in-place delete clean",
        "rename backups/.app.db",
    ),
    _bug(
        "the end of the work files is not synced before that of the run",
        "migrator/database/workspace.py",
        "            fsync_directory(layout.home)\n",
        "            pass\n",
        "install copy",
        "remove app.db.migrator/state.json",
    ),
)
