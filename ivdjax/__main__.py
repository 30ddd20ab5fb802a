"""`python -m ivdjax`: the program `ivdjax`."""

import sys

from ivdjax.cli.program import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m ivdjax"))
