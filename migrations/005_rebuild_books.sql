-- Books lose the author's name and get a real reference to authors.
-- SQLite cannot add a constraint to a column, so the table is built anew (https://www.sqlite.org/lang_altertable.html#otheralter).
-- With foreign keys on, DROP TABLE books would delete every loan by its ON DELETE CASCADE; the run has them off and
-- checks them before it commits.

-- migrate:up
CREATE TABLE books_new (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL CHECK (title <> ''),
    author_id INTEGER NOT NULL REFERENCES authors(id) ON DELETE RESTRICT,
    year INTEGER
);

INSERT INTO books_new (id, title, author_id, year)
SELECT id, title, author_id, year
FROM books;

DROP TABLE books;
ALTER TABLE books_new RENAME TO books;

-- migrate:down
CREATE TABLE books_old (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    author TEXT,
    year INTEGER,
    author_id INTEGER
);

INSERT INTO books_old (id, title, author, year, author_id)
SELECT books.id, books.title, authors.name, books.year, books.author_id
FROM books
JOIN authors ON authors.id = books.author_id;

DROP TABLE books;
ALTER TABLE books_old RENAME TO books;
