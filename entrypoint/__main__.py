"""`python -m entrypoint`, and the command of that name."""

import sys

from migrator.process import blocked_signals


def main() -> int:
    """Run the command; a signal that arrives during the imports waits for its handler."""
    blocked_signals.block_termination()
    from entrypoint.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
