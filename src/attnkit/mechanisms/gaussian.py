"""Gaussian attention: the nearer a key is to the query, the more of it is read.

    score = -|query - key|^2 / (2 bandwidth^2) = (query . key - |key|^2 / 2 - |query|^2 / 2) / bandwidth^2

The last part is the same for a whole row, and drops out of softmax. So the score is a dot product with one more axis,
where the query has a 1 and the key has -|key|^2 / 2. Here two axes carry it, since one number of bfloat16 holds three
digits only. The trap: there is no other scale. Dot products with the usual one, head_dim ** -0.5, have a bandwidth of
head_dim ** 0.25; but with them a long key wins by being long, and here it does not.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import unscaled
from attnkit.rule import Rule
from attnkit.shapes import Key, Query


def gaussian(*, bandwidth: float = 1.0, mask: Mask = masks.causal) -> Rule:
    """The rule, for queries and keys that have their two more axes.

    Args:
        bandwidth: the distance at which a key's weight has fallen to exp(-1/2) of what it is at the query, above 0.
        mask: where each query looks.

    Raises:
        OptionError: `bandwidth` is no finite number above 0.
    """
    if not isinstance(bandwidth, int | float) or isinstance(bandwidth, bool) or not 0 < bandwidth < math.inf:
        raise OptionError(
            where="gaussian",
            what=f"bandwidth is a distance between query and key, a finite number above 0; got {bandwidth!r}",
            fix="bandwidth=head_dim ** 0.25 gives dot products the usual scale of head_dim ** -0.5",
        )
    return Rule(mask=mask, scale=bandwidth**-2)


def prepare(query: Query, key: Key) -> dict[str, Tensor]:
    """Queries that end in two ones, and keys that end in minus half of their squared length, in two parts.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
    """
    precise = key.to(torch.promote_types(key.dtype, torch.float32))
    length = -precise.square().sum(-1, keepdim=True) / 2
    coarse = length.to(key.dtype)
    rest = (length - coarse).to(key.dtype)
    return {"query": pad(query, (0, 2), value=1.0), "key": torch.cat([key, coarse, rest], -1)}


MECHANISM = Mechanism(
    name="gaussian",
    family="score",
    summary="A score is minus the squared distance of query and key, so that weights are a Gaussian around the query.",
    formula=r"s_{qk} = -\frac{\|q - k\|^2}{2 \sigma^2}",
    paper=Paper(
        "The Lipschitz Constant of Self-Attention",
        2020,
        "https://arxiv.org/abs/2006.04710",
        "section 3.2, L2 self-attention, with projections of their own for query and key",
    ),
    rule=gaussian,
    prepare=prepare,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(unscaled.MECHANISM, parts={"key": lambda key: normalize(key, dim=-1)}, bandwidth=1.0),
    ),
    examples=({"bandwidth": 1.0}, {"bandwidth": 4.0}),
    own_positions=True,  # the two more axes must not be turned
)
