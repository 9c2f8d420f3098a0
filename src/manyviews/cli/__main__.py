"""``python -m manyviews.cli``."""

import sys

from manyviews.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
