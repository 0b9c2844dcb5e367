-- The two questions that every page asks: what does this member have, and which books are out.

-- migrate:up
CREATE INDEX loans_by_member ON loans (member_id, lent_on);
CREATE INDEX loans_open ON loans (book_id, lent_on) WHERE returned_on IS NULL;

-- migrate:down
DROP INDEX loans_open;
DROP INDEX loans_by_member;
