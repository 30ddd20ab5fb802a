"""Scores predictions against references, from a checkout: the same as `ivdjax evaluate`."""

import sys

from ivdjax.cli.evaluate import COMMAND

if __name__ == "__main__":
    sys.exit(COMMAND.main())
