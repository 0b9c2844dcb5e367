-- Made by refinery_cli 0.10.0 (tests/formats/make_rust_dumps.py).
BEGIN TRANSACTION;
CREATE TABLE changes (at INTEGER PRIMARY KEY, what TEXT);
INSERT INTO "changes" VALUES(1,'Ada -> Ada Lovelace');
CREATE TABLE late (id INTEGER PRIMARY KEY);
CREATE TABLE "notes" (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    text TEXT NOT NULL
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
INSERT INTO "refinery_schema_history" VALUES(10,'add_email','2026-11-28T21:07:37.605712071Z','15644480451962622872');
INSERT INTO "refinery_schema_history" VALUES(11,'rebuild_notes','2026-11-28T21:07:37.605750598Z','8636546781888529678');
INSERT INTO "refinery_schema_history" VALUES(3,'late','2026-11-28T21:07:37.791420165Z','15116271216636296579');
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL DEFAULT 'a;b'
, email TEXT);
INSERT INTO "users" VALUES(1,'Ada Lovelace',NULL);
INSERT INTO "users" VALUES(2,'Grace; Hopper',NULL);
INSERT INTO "users" VALUES(3,'Edsger',NULL);
CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN
    INSERT INTO changes (what) VALUES (old.name || ' -> ' || new.name);
    DELETE FROM changes WHERE what = 'a; END; b';
END;
CREATE INDEX by_email ON users (email);
COMMIT;
