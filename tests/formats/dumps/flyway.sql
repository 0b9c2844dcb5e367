-- Written after the documentation and source of Flyway (10.x, SQLite): what `flyway migrate` leaves of
-- V1__create_users.sql, V1_1__add_email.sql and R__names.sql. The checksums were made by hand, CRC-32
-- over the lines without their ends.
CREATE TABLE "flyway_schema_history" (
    "installed_rank" INT NOT NULL PRIMARY KEY,
    "version" VARCHAR(50),
    "description" VARCHAR(200) NOT NULL,
    "type" VARCHAR(20) NOT NULL,
    "script" VARCHAR(1000) NOT NULL,
    "checksum" INT,
    "installed_by" VARCHAR(100) NOT NULL,
    "installed_on" TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')),
    "execution_time" INT NOT NULL,
    "success" BOOLEAN NOT NULL
);
INSERT INTO "flyway_schema_history" VALUES(1,'1','create users','SQL','V1__create_users.sql',-1583449288,'','2024-05-01 10:00:00.123',4,1);
INSERT INTO "flyway_schema_history" VALUES(2,'1.1','add email','SQL','V1_1__add_email.sql',-265678817,'','2024-05-01 10:00:00.130',2,1);
INSERT INTO "flyway_schema_history" VALUES(3,NULL,'names','SQL','R__names.sql',1384716851,'','2024-05-01 10:00:00.140',1,1);
CREATE INDEX "flyway_schema_history_s_idx" ON "flyway_schema_history" ("success");
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
CREATE VIEW names AS SELECT name FROM users;
