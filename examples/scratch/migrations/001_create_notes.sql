-- migrate:up
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT INTO notes (text) VALUES ('the first note');

-- migrate:down
DROP TABLE notes;
