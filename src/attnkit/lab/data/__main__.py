"""`python -m attnkit.lab.data`: fetch all that is fetched, and say where it lies and whose it is."""

import sys

from attnkit.lab.data.fetching import DataError
from attnkit.lab.data.sources import SOURCES


def main() -> int:
    """Fetch each source; 1 where one cannot be had."""
    failed = 0
    for source in SOURCES:
        try:
            path = source.path()
        except DataError as refusal:
            failed = 1
            sys.stdout.write(f"{refusal}\n")
        else:
            sys.stdout.write(f"{path}\n  {source.holds}\n  {source.licence}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
