"""Finds, numbers and measures intervertebral discs, from a checkout: the same as `ivdjax infer`."""

import sys

from ivdjax.cli.infer import COMMAND

if __name__ == "__main__":
    sys.exit(COMMAND.main())
