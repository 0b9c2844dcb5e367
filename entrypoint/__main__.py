"""`python -m entrypoint`, and the command of that name."""

from __future__ import annotations

import gc

from migrator.process import blocked_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command; a signal that arrives during the imports waits for its handler."""
    blocked_signals.block_termination()
    # What is imported stays: looking for garbage while it is made finds none.
    gc.set_threshold(20_000)
    from entrypoint.main import main as run
    from migrator.process.ending import end

    end(run())


if __name__ == "__main__":
    main()
