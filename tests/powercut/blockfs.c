/*
 * A file system of one file, `disk`, that writes down what a disk is told.
 *
 * blockfs MOUNTPOINT IMAGE LOG: the file starts as the image, which stays as it
 * is. Each write is appended to the log with its offset and data, each fsync (a
 * loop device's flush) as a record without data. One thread, one order.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char name[] = "/disk";

static struct {
    char *data;
    off_t size;
    int log;
} disk;

struct record {
    uint64_t offset;
    uint64_t size; /* 0: a flush */
};

static int note(off_t offset, const char *data, size_t size)
{
    struct record record = {(uint64_t)offset, size};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)data, size}};
    return writev(disk.log, parts, 2) == (ssize_t)(sizeof record + size) ? 0 : -EIO;
}

static void *initialised(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    /* Nothing waits in the kernel: what a loop device has written has been written. */
    config->direct_io = 1;
    return NULL;
}

static int attributes(const char *path, struct stat *found, struct fuse_file_info *file)
{
    (void)file;
    memset(found, 0, sizeof *found);
    if (strcmp(path, "/") == 0) {
        found->st_mode = S_IFDIR | 0700;
        found->st_nlink = 2;
        return 0;
    }
    if (strcmp(path, name) != 0)
        return -ENOENT;
    found->st_mode = S_IFREG | 0600;
    found->st_nlink = 1;
    found->st_size = disk.size;
    return 0;
}

static int opened(const char *path, struct fuse_file_info *file)
{
    (void)file;
    return strcmp(path, name) == 0 ? 0 : -ENOENT;
}

static int inside(size_t size, off_t offset)
{
    return offset < disk.size ? (int)(size < (size_t)(disk.size - offset) ? size
                                                                            : (size_t)(disk.size - offset))
                              : 0;
}

static int taken(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)path, (void)file;
    int most = inside(size, offset);
    memcpy(data, disk.data + offset, (size_t)most);
    return most;
}

static int put(const char *path, const char *data, size_t size, off_t offset,
               struct fuse_file_info *file)
{
    (void)path, (void)file;
    int most = inside(size, offset);
    if (most == 0)
        return -ENOSPC;
    memcpy(disk.data + offset, data, (size_t)most);
    int error = note(offset, data, (size_t)most);
    return error ? error : most;
}

static int flushed(const char *path, int only_data, struct fuse_file_info *file)
{
    (void)path, (void)only_data, (void)file;
    return note(0, "", 0);
}

static const struct fuse_operations operations = {
    .init = initialised,
    .getattr = attributes,
    .open = opened,
    .read = taken,
    .write = put,
    .fsync = flushed,
};

int main(int count, char **words)
{
    struct stat found;
    int image = count == 4 ? open(words[2], O_RDONLY) : -1;
    if (image < 0 || fstat(image, &found) != 0) {
        fprintf(stderr, "usage: blockfs MOUNTPOINT IMAGE LOG\n");
        return 64;
    }
    disk.size = found.st_size;
    disk.data = mmap(NULL, (size_t)disk.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, image, 0);
    disk.log = open(words[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (disk.data == MAP_FAILED || disk.log < 0) {
        perror(words[2]);
        return 74;
    }
    char *arguments[] = {words[0], "-f", "-s", words[1], NULL};
    return fuse_main(4, arguments, &operations, NULL);
}
