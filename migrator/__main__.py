"""`python -m migrator`, and the command of that name."""

import sys

from migrator.system import stops


def main() -> int:
    """Run the command; a signal that stops it waits while it is imported."""
    stops.hold()
    from migrator.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
