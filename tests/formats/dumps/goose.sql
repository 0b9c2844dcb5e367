-- Written after goose's documentation and source (v3, dialect sqlite3): what `goose up` leaves of
-- 00001_users.sql, 00002_notes.sql and 00003_undone.sql, the last of which an older goose undid,
-- which added a row instead of deleting one.
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO goose_db_version VALUES(1,0,1,'2024-05-01 10:00:00');
INSERT INTO goose_db_version VALUES(2,1,1,'2024-05-01 10:00:00');
INSERT INTO goose_db_version VALUES(3,2,1,'2024-05-01 10:00:01');
INSERT INTO goose_db_version VALUES(4,3,1,'2024-05-01 10:00:02');
INSERT INTO goose_db_version VALUES(5,3,0,'2024-05-02 09:00:00');
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
CREATE TRIGGER noted AFTER INSERT ON notes BEGIN
  UPDATE users SET name = 'x';
END;
