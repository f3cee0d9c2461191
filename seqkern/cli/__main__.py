"""`python -m seqkern.cli`."""

import sys

from seqkern.cli import main

if __name__ == "__main__":
    sys.exit(main())
