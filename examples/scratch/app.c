/* Says how large a SQLite database is, from its header (https://sqlite.org/fileformat.html). */

#include <stdio.h>
#include <string.h>

static unsigned long
number(const unsigned char *at, int bytes)
{
    unsigned long value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

int
main(int argc, char **argv)
{
    unsigned char header[100];
    if (argc != 2) {
        fprintf(stderr, "usage: %s DATABASE\n", argv[0]);
        return 64;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL || fread(header, sizeof header, 1, file) != 1) {
        perror(argv[1]);
        return 66;
    }
    fclose(file);
    if (memcmp(header, "SQLite format 3", 16) != 0) {
        fprintf(stderr, "%s is no SQLite database\n", argv[1]);
        return 65;
    }
    unsigned long size = number(header + 16, 2);
    size = size == 1 ? 65536 : size;
    printf("%lu pages of %lu bytes\n", number(header + 28, 4), size);
    return 0;
}
