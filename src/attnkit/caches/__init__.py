"""Caches: what a layer has read, kept, so that each further token costs one token's work."""

from attnkit.caches.cache import Cache, Growing
from attnkit.caches.recurrent import Recurrent

__all__ = ["Cache", "Growing", "Recurrent"]
