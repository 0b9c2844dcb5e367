"""Sets of migrations as the tools of Rust have them: the dumps are made from these."""

from __future__ import annotations

USERS = """\
-- Users; and what is written of them.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL DEFAULT 'a;b'
);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT
);
INSERT INTO users (name) VALUES ('Ada'), ('Grace; Hopper'), ('Edsger');
INSERT INTO notes (user_id, text) VALUES (1, 'one'), (2, 'two');
"""
USERS_DOWN = "DROP TABLE notes;\nDROP TABLE users;\n"

TRIGGER = """\
CREATE TABLE changes (at INTEGER PRIMARY KEY, what TEXT);
CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN
    INSERT INTO changes (what) VALUES (old.name || ' -> ' || new.name);
    DELETE FROM changes WHERE what = 'a; END; b';
END;
UPDATE users SET name = 'Ada Lovelace' WHERE id = 1
"""
"""A trigger, and a last statement without its semicolon."""
TRIGGER_DOWN = "DROP TRIGGER users_changed;\nDROP TABLE changes;\n"

EMAIL = "ALTER TABLE users ADD COLUMN email TEXT;\r\nCREATE INDEX by_email ON users (email);\r\n"
"""Lines ended by CRLF, which the checksums count."""
EMAIL_DOWN = "DROP INDEX by_email;\nALTER TABLE users DROP COLUMN email;\n"

REBUILD = """\
CREATE TABLE notes_new (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT NOT NULL
);
INSERT INTO notes_new SELECT id, user_id, coalesce(text, '') FROM notes;
DROP TABLE notes;
ALTER TABLE notes_new RENAME TO notes;
"""
REBUILD_DOWN = """\
CREATE TABLE notes_old (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT
);
INSERT INTO notes_old SELECT * FROM notes;
DROP TABLE notes;
ALTER TABLE notes_old RENAME TO notes;
"""

SQLX = {
    "20230101000000_create_users.up.sql": USERS,
    "20230101000000_create_users.down.sql": USERS_DOWN,
    "20230201000000_log-changes.up.sql": TRIGGER,
    "20230201000000_log-changes.down.sql": TRIGGER_DOWN,
    "20230301000000_add_email.up.sql": EMAIL,
    "20230301000000_add_email.down.sql": EMAIL_DOWN,
    "20230401000000_rebuild_notes.up.sql": REBUILD,
    "20230401000000_rebuild_notes.down.sql": REBUILD_DOWN,
}

SQLX_SIMPLE = {
    "0001_create_users.sql": USERS,
    "2_log_changes.sql": TRIGGER,
    "10_add_email.sql": EMAIL,
    "11_compact.sql": "-- no-transaction\nVACUUM;\n",
    "12_keys_off.sql": f"COMMIT;\nPRAGMA foreign_keys = OFF;\nBEGIN;\n{REBUILD}",
    "13_journal.sql": (
        "COMMIT;\nPRAGMA journal_mode = DELETE;\nBEGIN;\n"
        "CREATE TABLE journal (id INTEGER PRIMARY KEY);\n"
    ),
    "README.md": "Not a migration.\n",
    "schema.sql": "CREATE TABLE ignored (id INTEGER);\n",
}
"""Without a way back, ordered by number, and with what no transaction allows: marked as such, and
between the end of sqlx's transaction and the beginning of another one."""

DIESEL = {
    "2023-01-01-000000_create_users/up.sql": USERS,
    "2023-01-01-000000_create_users/down.sql": USERS_DOWN,
    "2023-02-01_000000_log_changes/up.sql": TRIGGER,
    "2023-02-01_000000_log_changes/down.sql": TRIGGER_DOWN,
    "2023-03-01-000000-0000_add_email/up.sql": EMAIL,
    "2023-03-01-000000-0000_add_email/down.sql": EMAIL_DOWN,
    "2023-04-01-000000_compact/up.sql": "VACUUM;\n",
    "2023-04-01-000000_compact/metadata.toml": "run_in_transaction = false\n",
    "2023-05-01-000000_rebuild_notes/up.sql": REBUILD,
    "2023-05-01-000000_rebuild_notes/down.sql": REBUILD_DOWN,
    ".diesel_lock": "",
    ".keep": "",
    "README.md": "Not a migration.\n",
}

REFINERY = {
    "V1__create_users.sql": USERS,
    "V2__log_changes.sql": TRIGGER,
    "later/V10__add_email.sql": EMAIL,
    "V11__rebuild_notes.sql": REBUILD,
    "V12_is_ignored.sql": "CREATE TABLE ignored (id INTEGER);\n",
}
REFINERY_LATE = {"U3__late.sql": "CREATE TABLE late (id INTEGER PRIMARY KEY);\n"}
"""What may be applied after a higher version."""

REFINERY_INT8 = {
    "V1__create_users.sql": USERS,
    "V2__log_changes.sql": TRIGGER,
    "V20230301000000__add_email.sql": EMAIL,
}

SQLX_TOML = {
    "sqlx.toml": """\
[migrate]
table-name = "noted"
ignored-chars = ["\\r", "\\n", " "]
"""
}
