-- Made by diesel Version: 2.3.14 Supported Backends: sqlite (tests/formats/make_rust_dumps.py).
BEGIN TRANSACTION;
CREATE TABLE __diesel_schema_migrations (
       version VARCHAR(50) PRIMARY KEY NOT NULL,
       run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO "__diesel_schema_migrations" VALUES('20230101000000','2026-11-28 21:07:35');
INSERT INTO "__diesel_schema_migrations" VALUES('20230201','2026-11-28 21:07:35');
CREATE TABLE changes (at INTEGER PRIMARY KEY, what TEXT);
INSERT INTO "changes" VALUES(1,'Ada -> Ada Lovelace');
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT
);
INSERT INTO "notes" VALUES(1,1,'one');
INSERT INTO "notes" VALUES(2,2,'two');
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
