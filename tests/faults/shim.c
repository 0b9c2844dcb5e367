/*
 * Counts every call that changes something below one directory, over a whole
 * tree of processes, and injects one fault at a chosen one.
 *
 * Loaded with LD_PRELOAD. What to do stands in a file that all processes map
 * (FAULT_CONTROL); the layout is `struct control`, which shim.py writes and reads.
 *
 * With a seed, chance and the time of day are the same in every run of that seed,
 * and what takes less than TICK seconds takes none, so that equal faults leave equal
 * bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

#define ENTRIES 16384
#define TICK 5

enum action {
    COUNT_ONLY, ALL_BEFORE, ALL_AFTER, WORKER_BEFORE, WORKER_AFTER, PARENT_BEFORE, PARENT_AFTER,
    TORN, SHORT, ERROR_ONCE, ERROR_ON
};

enum {
    WRITE = 1, SYNC = 2, CREATE = 4, REMOVE = 8, RENAME = 16, LINK = 32, SIZE = 64, OWNER = 128,
    MAP = 256
};

struct entry {
    int32_t pid;
    uint32_t kind;
    char name[24];
    char path[96];
};

struct control {
    _Atomic uint64_t count;
    uint64_t point;
    uint64_t seed;
    int64_t epoch;
    uint32_t action;
    uint32_t error;
    uint32_t mask;
    _Atomic uint32_t fired;
    char root[1024];
    struct entry entries[ENTRIES];
};

enum verdict { PASS, FAIL, PASS_THEN_DIE_ALL, PASS_THEN_DIE, PASS_THEN_ORPHAN, TEAR, CUT };

static struct control *control;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        control = map;
}

static void die(int everybody)
{
    kill(everybody ? 0 : getpid(), SIGKILL);
    for (;;)
        pause();
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
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return 1;
    }
    if (dirfd == AT_FDCWD ? !getcwd(base, sizeof base) : !of_fd(dirfd, base))
        return 0;
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

/* What lies below the root, or NULL. */
static const char *below(const char *path)
{
    size_t n = strlen(control->root);
    if (strncmp(path, control->root, n) != 0 || (path[n] != '/' && path[n] != 0))
        return NULL;
    return path[n] ? path + n + 1 : ".";
}

static enum verdict decide(uint32_t kind, uint64_t number)
{
    uint32_t action = control->action;
    if (!control->point || action == COUNT_ONLY || number < control->point)
        return PASS;
    if (action == ERROR_ON) {
        if (!(kind & control->mask))
            return PASS;
        atomic_fetch_add(&control->fired, 1);
        return FAIL;
    }
    if (number > control->point)
        return PASS;
    atomic_fetch_add(&control->fired, 1);
    switch (action) {
    case ALL_BEFORE: die(1); break;
    case WORKER_BEFORE: die(0); break;
    case PARENT_BEFORE: kill(getpgrp(), SIGKILL); break;
    case ALL_AFTER: return PASS_THEN_DIE_ALL;
    case WORKER_AFTER: return PASS_THEN_DIE;
    case PARENT_AFTER: return PASS_THEN_ORPHAN;
    case TORN: return kind & WRITE ? TEAR : PASS_THEN_DIE_ALL;
    case SHORT: return kind & WRITE ? CUT : PASS;
    case ERROR_ONCE: return FAIL;
    }
    return PASS;
}

static enum verdict before(uint32_t kind, const char *name, const char *path)
{
    const char *inside = below(path);
    if (!inside)
        return PASS;
    uint64_t number = atomic_fetch_add(&control->count, 1) + 1;
    struct entry *entry = &control->entries[(number - 1) % ENTRIES];
    entry->pid = getpid();
    entry->kind = kind;
    snprintf(entry->name, sizeof entry->name, "%s", name);
    snprintf(entry->path, sizeof entry->path, "%s", inside);
    enum verdict verdict = decide(kind, number);
    if (verdict == FAIL)
        errno = (int)control->error;
    return verdict;
}

static enum verdict before_fd(uint32_t kind, const char *name, int fd)
{
    char path[PATH_MAX];
    int kept = errno;
    enum verdict verdict = control && of_fd(fd, path) ? before(kind, name, path) : PASS;
    if (verdict != FAIL)
        errno = kept;
    return verdict;
}

static enum verdict before_path(uint32_t kind, const char *name, int dirfd, const char *given)
{
    char path[PATH_MAX];
    int kept = errno;
    enum verdict verdict = control && of_path(dirfd, given, path) ? before(kind, name, path) : PASS;
    if (verdict != FAIL)
        errno = kept;
    return verdict;
}

static void after(enum verdict verdict)
{
    if (verdict == PASS_THEN_DIE_ALL || verdict == TEAR)
        die(1);
    if (verdict == PASS_THEN_DIE)
        die(0);
    if (verdict == PASS_THEN_ORPHAN)
        kill(getpgrp(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* A call without data: the fault lies before it, after it, or in its place. */
#define PLAIN(look, call)                    \
    enum verdict verdict = look;             \
    if (verdict == FAIL)                     \
        return -1;                           \
    __typeof__(call) result = call;          \
    int kept = errno;                        \
    after(verdict);                          \
    errno = kept;                            \
    return result

/* A call with data, of which half may be written. */
#define DATA(look, size, call)               \
    enum verdict verdict = look;             \
    if (verdict == FAIL)                     \
        return -1;                           \
    if ((verdict == TEAR || verdict == CUT) && size > 1) \
        size /= 2;                           \
    ssize_t result = call;                   \
    int kept = errno;                        \
    after(verdict);                          \
    errno = kept;                            \
    return result

ssize_t write(int fd, const void *data, size_t size)
{
    DATA(before_fd(WRITE, "write", fd), size, REAL(write)(fd, data, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    DATA(before_fd(WRITE, "pwrite", fd), size, REAL(pwrite)(fd, data, size, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    DATA(before_fd(WRITE, "pwrite", fd), size, REAL(pwrite64)(fd, data, size, at));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    DATA(before_fd(WRITE, "writev", fd), count, REAL(writev)(fd, parts, count));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    DATA(before_fd(WRITE, "pwritev", fd), count, REAL(pwritev)(fd, parts, count, at));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    DATA(before_fd(WRITE, "pwritev", fd), count, REAL(pwritev64)(fd, parts, count, at));
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    DATA(before_fd(WRITE, "pwritev2", fd), count, REAL(pwritev2)(fd, parts, count, at, flags));
}

ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    DATA(before_fd(WRITE, "splice", out), size, REAL(splice)(in, from, out, to, size, flags));
}

ssize_t sendfile(int out, int in, off_t *at, size_t size)
{
    DATA(before_fd(WRITE, "sendfile", out), size, REAL(sendfile)(out, in, at, size));
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t size)
{
    DATA(before_fd(WRITE, "sendfile", out), size, REAL(sendfile64)(out, in, at, size));
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    DATA(before_fd(WRITE, "copy_file_range", out), size,
         REAL(copy_file_range)(in, from, out, to, size, flags));
}

int ftruncate(int fd, off_t size)
{
    PLAIN(before_fd(SIZE, "ftruncate", fd), REAL(ftruncate)(fd, size));
}

int ftruncate64(int fd, off64_t size)
{
    PLAIN(before_fd(SIZE, "ftruncate", fd), REAL(ftruncate64)(fd, size));
}

int truncate(const char *path, off_t size)
{
    PLAIN(before_path(SIZE, "truncate", AT_FDCWD, path), REAL(truncate)(path, size));
}

int truncate64(const char *path, off64_t size)
{
    PLAIN(before_path(SIZE, "truncate", AT_FDCWD, path), REAL(truncate64)(path, size));
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    PLAIN(before_fd(WRITE, "fallocate", fd), REAL(fallocate)(fd, mode, at, size));
}

int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    PLAIN(before_fd(WRITE, "fallocate", fd), REAL(fallocate64)(fd, mode, at, size));
}

int fsync(int fd)
{
    PLAIN(before_fd(SYNC, "fsync", fd), REAL(fsync)(fd));
}

int fdatasync(int fd)
{
    PLAIN(before_fd(SYNC, "fdatasync", fd), REAL(fdatasync)(fd));
}

int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags)
{
    PLAIN(before_fd(SYNC, "sync_file_range", fd), REAL(sync_file_range)(fd, at, size, flags));
}

/* The stores to what is mapped are seen by no library: their first moment is the mapping. */
static int shares(int protection, int flags, int fd)
{
    return fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE);
}

void *mmap(void *start, size_t size, int protection, int flags, int fd, off_t at)
{
    if (!shares(protection, flags, fd))
        return REAL(mmap)(start, size, protection, flags, fd, at);
    enum verdict verdict = before_fd(MAP, "mmap", fd);
    if (verdict == FAIL)
        return MAP_FAILED;
    void *result = REAL(mmap)(start, size, protection, flags, fd, at);
    int kept = errno;
    after(verdict);
    errno = kept;
    return result;
}

void *mmap64(void *start, size_t size, int protection, int flags, int fd, off64_t at)
{
    return mmap(start, size, protection, flags, fd, at);
}

/* Only what copies: FICLONE and FICLONERANGE. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (request != FICLONE && request != FICLONERANGE)
        return REAL(ioctl)(fd, request, argument);
    PLAIN(before_fd(WRITE, "ioctl", fd), REAL(ioctl)(fd, request, argument));
}

int chmod(const char *path, mode_t mode)
{
    PLAIN(before_path(OWNER, "chmod", AT_FDCWD, path), REAL(chmod)(path, mode));
}

int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
    PLAIN(before_path(OWNER, "fchmodat", dirfd, path), REAL(fchmodat)(dirfd, path, mode, flags));
}

int chown(const char *path, uid_t uid, gid_t gid)
{
    PLAIN(before_path(OWNER, "chown", AT_FDCWD, path), REAL(chown)(path, uid, gid));
}

int lchown(const char *path, uid_t uid, gid_t gid)
{
    PLAIN(before_path(OWNER, "lchown", AT_FDCWD, path), REAL(lchown)(path, uid, gid));
}

int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
    PLAIN(before_path(OWNER, "fchownat", dirfd, path),
          REAL(fchownat)(dirfd, path, uid, gid, flags));
}

int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
    PLAIN(before_path(OWNER, "utimensat", dirfd, path),
          REAL(utimensat)(dirfd, path, times, flags));
}

int futimens(int fd, const struct timespec times[2])
{
    PLAIN(before_fd(OWNER, "utimensat", fd), REAL(futimens)(fd, times));
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    PLAIN(before_fd(OWNER, "fsetxattr", fd), REAL(fsetxattr)(fd, name, value, size, flags));
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    PLAIN(before_path(OWNER, "setxattr", AT_FDCWD, path),
          REAL(setxattr)(path, name, value, size, flags));
}

int fremovexattr(int fd, const char *name)
{
    PLAIN(before_fd(OWNER, "fremovexattr", fd), REAL(fremovexattr)(fd, name));
}

int fchmod(int fd, mode_t mode)
{
    PLAIN(before_fd(OWNER, "fchmod", fd), REAL(fchmod)(fd, mode));
}

int fchown(int fd, uid_t uid, gid_t gid)
{
    PLAIN(before_fd(OWNER, "fchown", fd), REAL(fchown)(fd, uid, gid));
}

/* posix_fallocate returns its error. */
int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    enum verdict verdict = before_fd(WRITE, "posix_fallocate", fd);
    if (verdict == FAIL)
        return (int)control->error;
    int result = REAL(posix_fallocate64)(fd, at, size);
    after(verdict);
    return result;
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return posix_fallocate64(fd, at, size);
}

/* -- chance and time -- */

static uint64_t drawn;

static uint64_t draw(void)
{
    uint64_t z = control->seed * 0x9e3779b97f4a7c15u + ++drawn * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int seeded(void)
{
    return control && control->seed;
}

static void fill(unsigned char *data, size_t size)
{
    for (size_t n = 0; n < size; n++)
        data[n] = (unsigned char)draw();
}

ssize_t getrandom(void *data, size_t size, unsigned flags)
{
    if (!seeded())
        return REAL(getrandom)(data, size, flags);
    fill(data, size);
    return (ssize_t)size;
}

/* Stands for /dev/urandom, which SQLite reads from. */
static int source_of_chance(void)
{
    unsigned char data[1024];
    fill(data, sizeof data);
    int fd = memfd_create("chance", MFD_CLOEXEC);
    if (fd >= 0 && (REAL(write)(fd, data, sizeof data) < 0 || lseek(fd, 0, SEEK_SET) < 0))
        abort();
    return fd;
}

static time_t today(void)
{
    return (time_t)(1893456000 + 60 * control->seed);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (seeded() && clock == CLOCK_REALTIME) {
        *now = (struct timespec){.tv_sec = today()};
        return 0;
    }
    int result = REAL(clock_gettime)(clock, now);
    if (!result && seeded() && clock == CLOCK_MONOTONIC && now->tv_sec >= control->epoch)
        *now = (struct timespec){.tv_sec = now->tv_sec - (now->tv_sec - control->epoch) % TICK};
    return result;
}

/*
 * A deadline was reckoned from the time that was told, and the kernel waits by its own. Python's
 * threads wait so for each other, by the monotonic clock: a deadline that is past already has
 * them interrupt each other all the time.
 */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline)
{
    struct timespec told, now, later = *deadline;
    clock_gettime(CLOCK_MONOTONIC, &told);
    REAL(clock_gettime)(CLOCK_MONOTONIC, &now);
    later.tv_sec += now.tv_sec - told.tv_sec;
    later.tv_nsec += now.tv_nsec - told.tv_nsec;
    if (later.tv_nsec < 0) {
        later.tv_sec -= 1;
        later.tv_nsec += 1000000000;
    } else if (later.tv_nsec >= 1000000000) {
        later.tv_sec += 1;
        later.tv_nsec -= 1000000000;
    }
    return REAL(pthread_cond_timedwait)(condition, mutex, &later);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    if (!seeded())
        return REAL(gettimeofday)(now, zone);
    *now = (struct timeval){.tv_sec = today()};
    return 0;
}

time_t time(time_t *out)
{
    time_t now = seeded() ? today() : REAL(time)(NULL);
    if (out)
        *out = now;
    return now;
}

#define OPENED(name, dirfd, path, flags, call)                                     \
    mode_t mode = 0;                                                               \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {                   \
        va_list more;                                                              \
        va_start(more, flags);                                                     \
        mode = va_arg(more, mode_t);                                               \
        va_end(more);                                                              \
    }                                                                              \
    if (seeded() && !strcmp(path, "/dev/urandom"))                                 \
        return source_of_chance();                                                 \
    if (!(flags & (O_CREAT | O_TRUNC)))                                            \
        return call;                                                               \
    PLAIN(before_path(CREATE, name, dirfd, path), call)

int open(const char *path, int flags, ...)
{
    OPENED("open", AT_FDCWD, path, flags, REAL(open)(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    OPENED("open", AT_FDCWD, path, flags, REAL(open64)(path, flags, mode));
}

int openat(int dirfd, const char *path, int flags, ...)
{
    OPENED("openat", dirfd, path, flags, REAL(openat)(dirfd, path, flags, mode));
}

int openat64(int dirfd, const char *path, int flags, ...)
{
    OPENED("openat", dirfd, path, flags, REAL(openat64)(dirfd, path, flags, mode));
}

int creat(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int mkdir(const char *path, mode_t mode)
{
    PLAIN(before_path(CREATE, "mkdir", AT_FDCWD, path), REAL(mkdir)(path, mode));
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
    PLAIN(before_path(CREATE, "mkdirat", dirfd, path), REAL(mkdirat)(dirfd, path, mode));
}

int unlink(const char *path)
{
    PLAIN(before_path(REMOVE, "unlink", AT_FDCWD, path), REAL(unlink)(path));
}

int unlinkat(int dirfd, const char *path, int flags)
{
    PLAIN(before_path(REMOVE, "unlinkat", dirfd, path), REAL(unlinkat)(dirfd, path, flags));
}

int rmdir(const char *path)
{
    PLAIN(before_path(REMOVE, "rmdir", AT_FDCWD, path), REAL(rmdir)(path));
}

int rename(const char *old, const char *new)
{
    PLAIN(before_path(RENAME, "rename", AT_FDCWD, new), REAL(rename)(old, new));
}

int renameat(int from, const char *old, int to, const char *new)
{
    PLAIN(before_path(RENAME, "renameat", to, new), REAL(renameat)(from, old, to, new));
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    PLAIN(before_path(RENAME, "renameat2", to, new), REAL(renameat2)(from, old, to, new, flags));
}

int link(const char *old, const char *new)
{
    PLAIN(before_path(LINK, "link", AT_FDCWD, new), REAL(link)(old, new));
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    PLAIN(before_path(LINK, "linkat", to, new), REAL(linkat)(from, old, to, new, flags));
}

int symlink(const char *old, const char *new)
{
    PLAIN(before_path(LINK, "symlink", AT_FDCWD, new), REAL(symlink)(old, new));
}

int symlinkat(const char *old, int to, const char *new)
{
    PLAIN(before_path(LINK, "symlinkat", to, new), REAL(symlinkat)(old, to, new));
}
