/* The application of the tests, static, so that it runs on `scratch`: says what it is, then acts. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void
stop(int number)
{
    (void)number;
    static const char text[] = "stopped\n";
    if (write(1, text, sizeof text - 1) < 0) {
        _exit(1);
    }
    _exit(42);
}

/* What the kernel says of this process's signals. */
static void
say_signals(void)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Sig", 3) == 0) {
            printf("signal %s", line);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

int
main(int argc, char **argv)
{
    printf("pid %d\nuser %d:%d\n", getpid(), getuid(), getgid());
    for (char **each = environ; *each != NULL; each++) {
        printf("env %s\n", *each);
    }
    say_signals();
    if (argc > 2 && strcmp(argv[1], "exit") == 0) {
        return atoi(argv[2]);
    }
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        signal(SIGTERM, stop);
        printf("ready\n");
        fflush(stdout);
        for (;;) {
            pause();
        }
    }
    return 0;
}
