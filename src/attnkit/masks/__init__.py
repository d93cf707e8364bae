"""Masks: where a query may look, as a rule on positions. True keeps.

    keep(q_pos, kv_pos) -> bool

`nn.MultiheadAttention` reads True the other way round ("ignore"); `scaled_dot_product_attention` reads
it as here. The last query stands at the last key unless `q_start` says otherwise, so that `causal` is
right with a cache; `is_causal` of PyTorch puts the first query at the first key.
"""

from attnkit.masks.mask import And, Mask, Not, Or
from attnkit.masks.own import Where, where
from attnkit.masks.plain import Causal, Full, causal, full
from attnkit.masks.samples import Lengths, lengths

__all__ = [
    "And",
    "Causal",
    "Full",
    "Lengths",
    "Mask",
    "Not",
    "Or",
    "Where",
    "causal",
    "full",
    "lengths",
    "where",
]
