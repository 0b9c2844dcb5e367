-- migrate:up
CREATE TABLE articles (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT INTO articles (text) VALUES ('# One'), ('The *second* one');

-- migrate:down
DROP TABLE articles;
