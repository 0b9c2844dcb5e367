-- Written after the documentation and source of Wrangler (4.20): what `wrangler d1 migrations apply
-- --local` leaves of 0001_users.sql and 0002_notes.sql.
CREATE TABLE d1_migrations(
		id         INTEGER PRIMARY KEY AUTOINCREMENT,
		name       TEXT UNIQUE,
		applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
);
INSERT INTO d1_migrations VALUES(1,'0001_users.sql','2024-05-01 10:00:00');
INSERT INTO d1_migrations VALUES(2,'0002_notes.sql','2024-05-01 10:00:00');
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE notes (id INTEGER PRIMARY KEY, user REFERENCES users (id));
