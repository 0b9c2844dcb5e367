"""
Run a command, and print the most memory that one of its processes had, in KiB.

`python -I -S peak.py COMMAND...`: a process of its own and a small one, for a child's count begins
with what its parent had when it forked. What a process has waited for is in its own count.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command; returns its exit code."""
    child = os.fork()
    if child == 0:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is what is wanted
    _, status, usage = os.wait4(child, 0)
    print(f"\n{usage.ru_maxrss}", flush=True)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
