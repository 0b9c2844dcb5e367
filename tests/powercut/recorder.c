/*
 * Writes down every call that changes something below one directory, with its
 * data and in one order over a whole tree of processes.
 *
 * Loaded with LD_PRELOAD. RECORDER_ROOT is the directory, RECORDER_LOG the file
 * that gets a `struct record` a call, RECORDER_LOCK one that all processes map.
 * The call and its record are one step to everybody else. recording.py reads
 * the log; what cannot be written down faithfully aborts the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation { CREATE, WRITE, SIZE, SYNC, MODE, MKDIR, REMOVE, RENAME, LINK, SAID };

struct record {
    uint32_t operation;
    int32_t pid;
    uint64_t inode;
    uint64_t number; /* offset, size or mode */
    uint32_t path;   /* bytes of the path, then of the other path, then of the data */
    uint32_t other;
    uint64_t data;
};

static _Atomic uint32_t *lock;
static const char *root, *file;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("RECORDER_LOCK");
    root = getenv("RECORDER_ROOT");
    file = getenv("RECORDER_LOG");
    int fd = path && root && file ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *lock, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        lock = map;
}

static void take(void)
{
    uint32_t nobody = 0;
    while (!atomic_compare_exchange_weak(lock, &nobody, 1)) {
        nobody = 0;
        sched_yield();
    }
}

static int of_fd(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

static int of_path(int dirfd, const char *path, char *out)
{
    char base[PATH_MAX];
    if (!path)
        return 0;
    if (path[0] == '/')
        return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    if (dirfd == AT_FDCWD ? !getcwd(base, sizeof base) : !of_fd(dirfd, base))
        return 0;
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

/* What lies below the root, or NULL. */
static const char *below(const char *path)
{
    size_t n = strlen(root);
    if (strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != 0))
        return NULL;
    return path[n] ? path + n + 1 : "";
}

static const char *fd_below(int fd, char *path)
{
    int kept = errno;
    const char *found = lock && of_fd(fd, path) ? below(path) : NULL;
    errno = kept;
    return found;
}

static const char *path_below(int dirfd, const char *given, char *path)
{
    int kept = errno;
    const char *found = lock && of_path(dirfd, given, path) ? below(path) : NULL;
    errno = kept;
    return found;
}

static uint64_t inode_of_fd(int fd)
{
    struct stat found;
    if (fstat(fd, &found) != 0)
        abort();
    return found.st_ino;
}

static uint64_t inode_of_path(const char *path)
{
    struct stat found;
    return lstat(path, &found) == 0 ? found.st_ino : 0;
}

/* Append one record; past our own `write`, and leaving no descriptor open. */
static void note(enum operation operation, uint64_t inode, uint64_t number, const char *path,
                 const char *other, const void *data, size_t size)
{
    struct record record = {operation, getpid(), inode, number, strlen(path), strlen(other), size};
    struct iovec parts[] = {{&record, sizeof record},
                            {(void *)path, record.path},
                            {(void *)other, record.other},
                            {(void *)data, size}};
    ssize_t all = (ssize_t)(sizeof record + record.path + record.other + size);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_writev, fd, parts, 4) != all)
        abort();
    syscall(SYS_close, fd);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* Make a call and, where it has succeeded, its record, with nobody between them. */
#define RECORDED(inside, call, record)         \
    if (!(inside))                             \
        return call;                           \
    take();                                    \
    __typeof__(call) result = call;            \
    int kept = errno;                          \
    if (result >= 0)                           \
        record;                                \
    atomic_store(lock, 0);                     \
    errno = kept;                              \
    return result

/* -- data ---------------------------------------------------------------------------- */

static void said(const void *data, size_t size)
{
    if (lock && memmem(data, size, "\"run.finished\"", 14)) {
        take();
        note(SAID, 0, 0, "", "", data, size);
        atomic_store(lock, 0);
    }
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    if (!inside && fd == STDERR_FILENO)
        said(data, size);
    RECORDED(inside, REAL(write)(fd, data, size),
             note(WRITE, inode_of_fd(fd), (uint64_t)(lseek(fd, 0, SEEK_CUR) - result), inside, "",
                  data, (size_t)result));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(pwrite64)(fd, data, size, at),
             note(WRITE, inode_of_fd(fd), (uint64_t)at, inside, "", data, (size_t)result));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

/* Written one by one: to a file system that is no difference. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char path[PATH_MAX];
    if (!fd_below(fd, path))
        return REAL(writev)(fd, parts, count);
    ssize_t all = 0;
    for (int n = 0; n < count; n++) {
        ssize_t done = write(fd, parts[n].iov_base, parts[n].iov_len);
        if (done < 0)
            return all ? all : -1;
        all += done;
        if ((size_t)done < parts[n].iov_len)
            break;
    }
    return all;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    char path[PATH_MAX];
    if (!fd_below(fd, path))
        return REAL(pwritev64)(fd, parts, count, at);
    ssize_t all = 0;
    for (int n = 0; n < count; n++) {
        ssize_t done = pwrite64(fd, parts[n].iov_base, parts[n].iov_len, at + all);
        if (done < 0)
            return all ? all : -1;
        all += done;
        if ((size_t)done < parts[n].iov_len)
            break;
    }
    return all;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return pwritev64(fd, parts, count, at);
}

/* Copies inside the kernel are refused as by an old one: everybody then reads and writes. */
ssize_t sendfile64(int out, int in, off64_t *at, size_t size)
{
    char path[PATH_MAX];
    if (!fd_below(out, path))
        return REAL(sendfile64)(out, in, at, size);
    errno = EINVAL;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *at, size_t size)
{
    return sendfile64(out, in, at, size);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    char path[PATH_MAX];
    if (!fd_below(out, path))
        return REAL(copy_file_range)(in, from, out, to, size, flags);
    errno = ENOSYS;
    return -1;
}

/* -- sizes, and what makes durable ----------------------------------------------------- */

int ftruncate64(int fd, off64_t size)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(ftruncate64)(fd, size),
             note(SIZE, inode_of_fd(fd), (uint64_t)size, inside, "", "", 0));
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int truncate64(const char *given, off64_t size)
{
    char path[PATH_MAX];
    const char *inside = path_below(AT_FDCWD, given, path);
    RECORDED(inside, REAL(truncate64)(given, size),
             note(SIZE, inode_of_path(path), (uint64_t)size, inside, "", "", 0));
}

int truncate(const char *given, off_t size)
{
    return truncate64(given, size);
}

static void grown(int fd, const char *inside, off64_t end)
{
    struct stat found;
    if (fstat(fd, &found) == 0 && found.st_size == end)
        note(SIZE, found.st_ino, (uint64_t)end, inside, "", "", 0);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    if (inside && mode)
        abort();
    RECORDED(inside, REAL(fallocate64)(fd, mode, at, size), grown(fd, inside, at + size));
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    return fallocate64(fd, mode, at, size);
}

/* posix_fallocate returns its error, which is never below zero. */
int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(posix_fallocate64)(fd, at, size), grown(fd, inside, at + size));
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return posix_fallocate64(fd, at, size);
}

int fsync(int fd)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(fsync)(fd), note(SYNC, inode_of_fd(fd), 0, inside, "", "", 0));
}

int fdatasync(int fd)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(fdatasync)(fd), note(SYNC, inode_of_fd(fd), 0, inside, "", "", 0));
}

int fchmod(int fd, mode_t mode)
{
    char path[PATH_MAX];
    const char *inside = fd_below(fd, path);
    RECORDED(inside, REAL(fchmod)(fd, mode),
             note(MODE, inode_of_fd(fd), mode, inside, "", "", 0));
}

/* -- names --------------------------------------------------------------------------- */

static void opened(int fd, int flags, uint64_t before, const char *inside)
{
    struct stat found;
    if (fstat(fd, &found) != 0 || (flags & O_TMPFILE) == O_TMPFILE)
        abort();
    if (!before)
        note(CREATE, found.st_ino, found.st_mode & 07777, inside, "", "", 0);
    else if (flags & O_TRUNC)
        note(SIZE, found.st_ino, 0, inside, "", "", 0);
}

int openat64(int dirfd, const char *given, int flags, ...)
{
    char path[PATH_MAX];
    mode_t mode = 0;
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    const char *inside = NULL;
    if (flags & (O_CREAT | O_TRUNC))
        inside = path_below(dirfd, given, path);
    uint64_t before = inside ? inode_of_path(path) : 0;
    RECORDED(inside, REAL(openat64)(dirfd, given, flags, mode),
             opened(result, flags, before, inside));
}

#define OPENED(dirfd, given, flags)                                    \
    mode_t mode = 0;                                                   \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {       \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode = va_arg(more, mode_t);                                   \
        va_end(more);                                                  \
    }                                                                  \
    return openat64(dirfd, given, flags, mode)

int open(const char *given, int flags, ...)
{
    OPENED(AT_FDCWD, given, flags);
}

int open64(const char *given, int flags, ...)
{
    OPENED(AT_FDCWD, given, flags);
}

int openat(int dirfd, const char *given, int flags, ...)
{
    OPENED(dirfd, given, flags);
}

int mkdirat(int dirfd, const char *given, mode_t mode)
{
    char path[PATH_MAX];
    const char *inside = path_below(dirfd, given, path);
    RECORDED(inside, REAL(mkdirat)(dirfd, given, mode),
             note(MKDIR, inode_of_path(path), mode, inside, "", "", 0));
}

int mkdir(const char *given, mode_t mode)
{
    return mkdirat(AT_FDCWD, given, mode);
}

int unlinkat(int dirfd, const char *given, int flags)
{
    char path[PATH_MAX];
    const char *inside = path_below(dirfd, given, path);
    RECORDED(inside, REAL(unlinkat)(dirfd, given, flags), note(REMOVE, 0, 0, inside, "", "", 0));
}

int unlink(const char *given)
{
    return unlinkat(AT_FDCWD, given, 0);
}

int rmdir(const char *given)
{
    return unlinkat(AT_FDCWD, given, AT_REMOVEDIR);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    char one[PATH_MAX], other[PATH_MAX];
    const char *source = path_below(from, old, one), *target = path_below(to, new, other);
    if (!source != !target || (source && flags))
        abort();
    RECORDED(source, REAL(renameat2)(from, old, to, new, flags),
             note(RENAME, inode_of_path(other), 0, source, target, "", 0));
}

int renameat(int from, const char *old, int to, const char *new)
{
    return renameat2(from, old, to, new, 0);
}

int rename(const char *old, const char *new)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char other[PATH_MAX];
    const char *target = path_below(to, new, other);
    RECORDED(target, REAL(linkat)(from, old, to, new, flags),
             note(LINK, inode_of_path(other), 0, target, "", "", 0));
}

int link(const char *old, const char *new)
{
    return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int symlinkat(const char *old, int to, const char *new)
{
    char path[PATH_MAX];
    if (path_below(to, new, path))
        abort();
    return REAL(symlinkat)(old, to, new);
}

int symlink(const char *old, const char *new)
{
    return symlinkat(old, AT_FDCWD, new);
}
