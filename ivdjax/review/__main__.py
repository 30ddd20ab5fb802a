"""`python -m ivdjax.review`."""

import sys

from ivdjax.review.command import main

if __name__ == "__main__":
    sys.exit(main())
