"""Cross-validates a configuration by subject, from a checkout: the same as `ivdjax cross-validate`."""

import sys

from ivdjax.cli.cross_validate import COMMAND

if __name__ == "__main__":
    sys.exit(COMMAND.main())
