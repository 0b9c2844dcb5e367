/*
 * What the kernel starts: `bin/python3` is this program, the commands are links to it.
 *
 * It takes the dynamic linker's variables out of the environment and executes the launcher, which
 * puts them back. They are the application's: its LD_PRELOAD may be an allocator for Debian 12 or a
 * library for musl, which would be loaded into our process and end it. It is static because in a
 * dynamic program the linker has read them before the first line of ours runs.
 *
 * Signals that stop the program wait until it handles them: as PID 1 the kernel would drop one that
 * comes before (signal(7)), and `docker stop` would then wait for its ten seconds.
 */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hidden.h"

#define PROGRAMS "/opt/sqlite-entrypoint/libexec/"

extern char **environ;

/* The launcher's name, so that `ps` shows the command: the kernel takes it from the path. */
static const char *
launcher_of(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    const char *name = slash == NULL ? argv0 : slash + 1;
    if (strncmp(name, "python", 6) == 0) {
        return PROGRAMS "python3";
    }
    if (strcmp(name, "migrator") == 0) {
        return PROGRAMS "migrator";
    }
    if (strcmp(name, "sqlite-entrypoint") == 0) {
        return PROGRAMS "sqlite-entrypoint";
    }
    return PROGRAMS "entrypoint";
}

static void
hold_stops(void)
{
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGHUP);
    sigaddset(&stops, SIGQUIT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
}

int
main(int argc, char **argv)
{
    const char *launcher = launcher_of(argc > 0 ? argv[0] : "");
    if (strcmp(launcher, PROGRAMS "python3") != 0) {
        hold_stops();
    }
    for (char **each = environ; *each != NULL; each++) {
        if (strncmp(*each, SHOWN, strlen(SHOWN)) == 0) {
            memcpy(*each, HIDDEN, strlen(HIDDEN));
        }
    }
    execve(launcher, argv, environ);
    int why = errno;
    fprintf(stderr, "%s: %s. The tree has to lie at /opt/sqlite-entrypoint.\n", launcher,
            strerror(why));
    return why == ENOENT ? 127 : 126;
}
