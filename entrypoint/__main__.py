"""`python -m entrypoint`."""

import sys

from entrypoint.main import main

if __name__ == "__main__":
    sys.exit(main())
