"""Masks of other libraries, in both directions; each `from_` refuses what its library would misread in silence.

    library                      True (or 1)    bias     its mask has axes
    scaled_dot_product_attention keeps          added    (*batch, heads, q_len, kv_len), from the right
    nn.MultiheadAttention        ignores        added    (q_len, kv_len) or (batch * num_heads, q_len, kv_len)
    Hugging Face                 is a token     added    (batch, kv_len) or (batch, 1, q_len, kv_len)
    FlexAttention                keeps          -        a function (b, h, q_idx, kv_idx), and a BlockMask

A tensor has rows, a mask has positions: row r of a tensor is the query at `q_start + r`, and `q_start` is
`kv_len - q_len` when not given, as everywhere in attnkit.
"""

from attnkit.converters.blocks import block_mask
from attnkit.converters.flex import MaskMod, from_flex, to_flex
from attnkit.converters.hugging_face import from_hugging_face, to_hugging_face, to_padding
from attnkit.converters.multihead import from_multihead, to_key_padding, to_multihead
from attnkit.converters.sdpa import from_sdpa, to_sdpa
from attnkit.converters.table import Table

__all__ = [
    "MaskMod",
    "Table",
    "block_mask",
    "from_flex",
    "from_hugging_face",
    "from_multihead",
    "from_sdpa",
    "to_flex",
    "to_hugging_face",
    "to_key_padding",
    "to_multihead",
    "to_padding",
    "to_sdpa",
]
