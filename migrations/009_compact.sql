-- Return the pages that the rebuilds left free, and let later ones go with `PRAGMA incremental_vacuum`.
-- VACUUM cannot run inside a transaction, and auto_vacuum changes only with it.

-- migrate:up transaction:false
PRAGMA auto_vacuum = INCREMENTAL;
VACUUM;

-- migrate:down transaction:false
PRAGMA auto_vacuum = NONE;
VACUUM;
