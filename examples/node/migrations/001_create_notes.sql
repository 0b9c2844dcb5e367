-- migrate:up
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT INTO notes (text) VALUES ('water the plants'), ('return the ladder');

-- migrate:down
DROP TABLE notes;
