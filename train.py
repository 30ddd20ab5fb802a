"""Trains a model from a configuration, from a checkout: the same as `ivdjax train`."""

import sys

from ivdjax.cli.train import COMMAND

if __name__ == "__main__":
    sys.exit(COMMAND.main())
