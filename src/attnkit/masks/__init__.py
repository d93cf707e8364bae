"""Masks: where a query may look, as a rule on positions. True keeps.

    keep(q_pos, kv_pos) -> bool

`nn.MultiheadAttention` reads True the other way round ("ignore"); `scaled_dot_product_attention` reads
it as here. The last query stands at the last key unless `q_start` says otherwise, so that `causal` is
right with a cache; `is_causal` of PyTorch puts the first query at the first key.
"""

from attnkit.masks.area import Area, Cover
from attnkit.masks.chunks import Blocks, RandomBlocks, blocks, random_blocks
from attnkit.masks.drawing import Drawing
from attnkit.masks.lattice import Neighborhood, along, neighborhood
from attnkit.masks.mask import And, Mask, Not, Or
from attnkit.masks.nearby import Segments, band, segments
from attnkit.masks.own import Where, where
from attnkit.masks.packed import Documents, documents
from attnkit.masks.pattern import Pattern
from attnkit.masks.plain import (
    Causal,
    First,
    Full,
    Strided,
    Window,
    causal,
    dilated,
    first,
    full,
    strided,
    window,
)
from attnkit.masks.queries import FirstQueries, first_queries
from attnkit.masks.samples import Lengths, lengths, prefix
from attnkit.masks.tiles import Tiles, refine

__all__ = [
    "And",
    "Area",
    "Blocks",
    "Causal",
    "Cover",
    "Documents",
    "Drawing",
    "First",
    "FirstQueries",
    "Full",
    "Lengths",
    "Mask",
    "Neighborhood",
    "Not",
    "Or",
    "Pattern",
    "RandomBlocks",
    "Segments",
    "Strided",
    "Tiles",
    "Where",
    "Window",
    "along",
    "band",
    "blocks",
    "causal",
    "dilated",
    "documents",
    "first",
    "first_queries",
    "full",
    "lengths",
    "neighborhood",
    "prefix",
    "random_blocks",
    "refine",
    "segments",
    "strided",
    "where",
    "window",
]
