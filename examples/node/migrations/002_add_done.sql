-- migrate:up
ALTER TABLE notes ADD COLUMN done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1));

-- migrate:down
ALTER TABLE notes DROP COLUMN done;
