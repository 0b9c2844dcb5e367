-- Written after the documentation and source of Drizzle (drizzle-orm 0.44, better-sqlite3): what its
-- `migrate` leaves of 0000_wild_hulk.sql and 0001_calm_wasp.sql. `SERIAL PRIMARY KEY` is no rowid in
-- SQLite, so that each id is NULL. The hashes are `sha256sum`'s.
CREATE TABLE "__drizzle_migrations" (
				id SERIAL PRIMARY KEY,
				hash text NOT NULL,
				created_at numeric
			);
INSERT INTO "__drizzle_migrations" VALUES(NULL,'45c76d2dd44e972a3b805767c0ac2b1ce2a6626512c6a206ee03f5d6b2307f71',1704067200123);
INSERT INTO "__drizzle_migrations" VALUES(NULL,'4184f70ccb680fffff5aba39875a1727aefaf3e792a3e5bae571fc5f03c01fa3',1704153600456);
CREATE TABLE `users` (
	`id` integer PRIMARY KEY NOT NULL,
	`name` text
);
CREATE TABLE `notes` (
	`id` integer PRIMARY KEY NOT NULL,
	`user` integer REFERENCES `users`(`id`)
);
CREATE INDEX `by_user` ON `notes` (`user`);
CREATE TRIGGER `noted` AFTER INSERT ON `notes` BEGIN
	UPDATE `notes` SET `user` = NULL WHERE 'x; y' = '';
END;
