/* Lists the notes in the database that MIGRATOR_DATABASE names, and ends. */

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static int
show(sqlite3 *database)
{
    sqlite3_stmt *notes;
    const char *query = "SELECT id, text FROM notes ORDER BY id";
    if (sqlite3_prepare_v2(database, query, -1, &notes, NULL) != SQLITE_OK) {
        return SQLITE_ERROR;
    }
    while (sqlite3_step(notes) == SQLITE_ROW) {
        printf("%d %s\n", sqlite3_column_int(notes, 0), sqlite3_column_text(notes, 1));
    }
    return sqlite3_finalize(notes);
}

int
main(void)
{
    const char *path = getenv("MIGRATOR_DATABASE");
    sqlite3 *database = NULL;
    int code = sqlite3_open_v2(path ? path : "", &database, SQLITE_OPEN_READONLY, NULL);
    if (code == SQLITE_OK) {
        code = show(database);
    }
    if (code != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", path ? path : "MIGRATOR_DATABASE", sqlite3_errmsg(database));
    }
    sqlite3_close(database);
    return code == SQLITE_OK ? 0 : 1;
}
