-- Written after golang-migrate's documentation and source (v4, driver sqlite3): what
-- `migrate up 2` leaves of 1_users and 2_notes.
CREATE TABLE schema_migrations (version uint64,dirty bool);
CREATE UNIQUE INDEX version_unique ON schema_migrations (version);
INSERT INTO schema_migrations VALUES(2,0);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
