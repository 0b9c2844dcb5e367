-- How often a book was lent, kept by triggers instead of counted for every page.

-- migrate:up
ALTER TABLE books ADD COLUMN times_lent INTEGER NOT NULL DEFAULT 0;

UPDATE books
SET times_lent = (SELECT count(*) FROM loans WHERE loans.book_id = books.id);

CREATE TRIGGER loans_count_in AFTER INSERT ON loans
BEGIN
    UPDATE books SET times_lent = times_lent + 1 WHERE id = new.book_id;
END;

CREATE TRIGGER loans_count_out AFTER DELETE ON loans
BEGIN
    UPDATE books SET times_lent = times_lent - 1 WHERE id = old.book_id;
END;

-- migrate:down
DROP TRIGGER loans_count_out;
DROP TRIGGER loans_count_in;
ALTER TABLE books DROP COLUMN times_lent;
