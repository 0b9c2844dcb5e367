-- One row an author instead of one spelling a book.
-- Books keep the old column until 005 has rebuilt their table.

-- migrate:up
CREATE TABLE authors (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

INSERT INTO authors (name)
SELECT DISTINCT coalesce(nullif(trim(author), ''), 'Unknown; see the catalogue')
FROM books
ORDER BY 1;

ALTER TABLE books ADD COLUMN author_id INTEGER;

UPDATE books
SET author_id = (
    SELECT authors.id
    FROM authors
    WHERE authors.name = coalesce(nullif(trim(books.author), ''), 'Unknown; see the catalogue')
);

-- migrate:down
ALTER TABLE books DROP COLUMN author_id;
DROP TABLE authors;
