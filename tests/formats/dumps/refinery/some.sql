-- Made by refinery_cli 0.10.0 (tests/formats/make_rust_dumps.py).
BEGIN TRANSACTION;
CREATE TABLE changes (at INTEGER PRIMARY KEY, what TEXT);
INSERT INTO "changes" VALUES(1,'Ada -> Ada Lovelace');
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT
);
INSERT INTO "notes" VALUES(1,1,'one');
INSERT INTO "notes" VALUES(2,2,'two');
CREATE TABLE refinery_schema_history(
             version int4 PRIMARY KEY,
             name VARCHAR(255),
             applied_on VARCHAR(255),
             checksum VARCHAR(255));
INSERT INTO "refinery_schema_history" VALUES(1,'create_users','2026-11-28T21:07:37.438492401Z','16438025440981174166');
INSERT INTO "refinery_schema_history" VALUES(2,'log_changes','2026-11-28T21:07:37.438520172Z','2464534469766238805');
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL DEFAULT 'a;b'
);
INSERT INTO "users" VALUES(1,'Ada Lovelace');
INSERT INTO "users" VALUES(2,'Grace; Hopper');
INSERT INTO "users" VALUES(3,'Edsger');
CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN
    INSERT INTO changes (what) VALUES (old.name || ' -> ' || new.name);
    DELETE FROM changes WHERE what = 'a; END; b';
END;
COMMIT;
