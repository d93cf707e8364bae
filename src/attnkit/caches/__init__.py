"""Caches: what a layer has read, kept, so that each further token costs one token's work.

    cache = layer.new_cache(kind="growing" | "static" | "sliding" | "quantised")
    output = layer(x, cache=cache)

The layer with a cache, fed in chunks of any lengths, gives what it gives for all tokens at once.
"""

from attnkit.caches.cache import Cache, Read
from attnkit.caches.forms import Cast, Form, Int8, Plain
from attnkit.caches.kept import Growing, Kept, Quantised, Sliding, Static
from attnkit.caches.recurrent import Recurrent

__all__ = [
    "Cache",
    "Cast",
    "Form",
    "Growing",
    "Int8",
    "Kept",
    "Plain",
    "Quantised",
    "Read",
    "Recurrent",
    "Sliding",
    "Static",
]
