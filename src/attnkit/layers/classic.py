"""The tutorial's modules under the names that readers know, ready for use.

All but one are the very classes of the tutorial. `MultiHeadAttention` differs from the tutorial's in one
method: `attend` calls a rule, which runs fused code and makes no len x len tensor.
"""

from attnkit import masks
from attnkit.layers import teaching
from attnkit.layers.teaching import CausalAttention, MultiHeadAttentionWrapper, SelfAttention, SelfAttentionv2
from attnkit.rule import Rule
from attnkit.shapes import Context, Key, Query, Value

SelfAttention_v1 = SelfAttention
SelfAttention_v2 = SelfAttentionv2


class MultiHeadAttention(teaching.MultiHeadAttention):
    """Causal attention by several heads, each reading d_out / num_heads numbers, and a last projection.

    Maps (*batch, len, d_in) to (*batch, len, d_out), len up to context_length. Parameters, their order and
    their names are those of the tutorial's class; checkpoints go both ways.

    Args:
        d_in: width of the input.
        d_out: width of the output, a multiple of num_heads.
        context_length: the most tokens that a call may hold.
        dropout: share of weights to drop in training, from 0 to 1.
        num_heads: how many heads share d_out.
        qkv_bias: whether the three input projections have a bias; the last one always has.

    Raises:
        ShapeError: d_out is no multiple of num_heads; in a call, a wrong last axis or too many tokens.
        DtypeError: in a call, an input that holds no floats.
        OptionError: dropout or num_heads is out of range.
    """

    def attend(self, query: Query, key: Key, value: Value) -> Context:
        """What each head reads: the causal rule."""
        rule = Rule(mask=masks.causal, dropout=self.dropout.p)
        return rule(query, key, value, training=self.training)


__all__ = [
    "CausalAttention",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "SelfAttention",
    "SelfAttention_v1",
    "SelfAttention_v2",
    "SelfAttentionv2",
]
