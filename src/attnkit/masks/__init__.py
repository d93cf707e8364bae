"""Masks: where a query may look, as a rule on positions. True keeps.

    keep(q_pos, kv_pos) -> bool

`nn.MultiheadAttention` reads True the other way round ("ignore"); `scaled_dot_product_attention` reads
it as here. The last query stands at the last key unless `q_start` says otherwise, so that `causal` is
right with a cache; `is_causal` of PyTorch puts the first query at the first key.
"""

from attnkit.masks.area import Area, Cover
from attnkit.masks.documents import Documents, documents
from attnkit.masks.mask import And, Mask, Not, Or
from attnkit.masks.own import Where, where
from attnkit.masks.plain import Causal, First, Full, Window, causal, first, full, window
from attnkit.masks.samples import Lengths, lengths
from attnkit.masks.tiles import Tiles, refine

__all__ = [
    "And",
    "Area",
    "Causal",
    "Cover",
    "Documents",
    "First",
    "Full",
    "Lengths",
    "Mask",
    "Not",
    "Or",
    "Tiles",
    "Where",
    "Window",
    "causal",
    "documents",
    "first",
    "full",
    "lengths",
    "refine",
    "where",
    "window",
]
