-- Written after the documentation and source of Prisma (schema-engine 6.x, provider "sqlite"): what
-- `prisma migrate deploy` leaves of 20240101000000_init and 20240102000000_posts, where the second has
-- failed once and was then marked with `migrate resolve --rolled-back`. The checksums are `sha256sum`'s.
CREATE TABLE "_prisma_migrations" (
    "id"                    TEXT PRIMARY KEY NOT NULL,
    "checksum"              TEXT NOT NULL,
    "finished_at"           DATETIME,
    "migration_name"        TEXT NOT NULL,
    "logs"                  TEXT,
    "rolled_back_at"        DATETIME,
    "started_at"            DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count"   INTEGER UNSIGNED NOT NULL DEFAULT 0
);
INSERT INTO "_prisma_migrations" VALUES('6f1b2c1e-0a52-4c63-8d0b-3a1f0f7c2a11','d4f31eec9195147c7976647957b743f1001947dae3cd127fd8c721e85c79aa65',1704067200123,'20240101000000_init',NULL,NULL,1704067200100,1);
INSERT INTO "_prisma_migrations" VALUES('b3d9e8a4-7c10-4e59-9a3e-5c9f1d2b4e22','c787b18b1791b1cfba0c9d0fe6bc166bd054a8398510b4ad85dd6c06af024ea4',NULL,'20240102000000_posts','A migration failed to apply.',1704153660000,1704153600000,0);
INSERT INTO "_prisma_migrations" VALUES('0c4a7f52-91de-4b8b-b1f6-2e6d8c7a9f33','c787b18b1791b1cfba0c9d0fe6bc166bd054a8398510b4ad85dd6c06af024ea4',1704153661500,'20240102000000_posts',NULL,NULL,1704153661000,1);
CREATE TABLE "User" (
    "id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    "email" TEXT NOT NULL
);
CREATE TABLE "Post" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" INTEGER NOT NULL,
    CONSTRAINT "Post_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX "Post_userId_idx" ON "Post"("userId");
