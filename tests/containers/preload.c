/* What an image has in LD_PRELOAD, an allocator say: tells each program that it is loaded into. */

#include <unistd.h>

__attribute__((constructor)) static void
tell(void)
{
    static const char text[] = "preloaded\n";
    if (write(2, text, sizeof text - 1) < 0) {
        _exit(1);
    }
}
