"""Cosine attention: only the angle between query and key counts, and each head learns how sharply.

    score = exp(log_scale_h) * cos(query, key),    exp(log_scale_h) <= max_scale

Scores lie between -scale and scale, however long the vectors grow. Swin Transformer V2 divides by tau instead: its tau
of at least 0.01 is `max_scale` of 100, and its `logit_scale` is `log_scale`. The trap: at the bound the gradient of
`log_scale` is zero, in Swin's code as here, so that a scale that has passed the bound stays there.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper
from attnkit.mechanisms import unscaled
from attnkit.rule import Rule
from attnkit.shapes import Key, Query


def cosine(*, mask: Mask = masks.causal) -> Rule:
    """The rule, for keys of length 1 and queries as long as the scale of their head.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, scale=1.0)


def prepare(query: Query, key: Key, *, log_scale: Tensor, max_scale: float = 100.0) -> dict[str, Tensor]:
    """Keys of length 1, and queries as long as the scale of their head.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        log_scale: (num_heads,), the logarithm of the scale.
        max_scale: the scale that no head exceeds, above 0.

    Raises:
        OptionError: `max_scale` is no finite number above 0.
    """
    if not isinstance(max_scale, int | float) or isinstance(max_scale, bool) or not 0 < max_scale < math.inf:
        raise OptionError(
            where="cosine",
            what=f"max_scale is the size that no score exceeds, a finite number above 0; got {max_scale!r}",
            fix="max_scale=100.0, as in Swin Transformer V2",
        )
    scale = log_scale.clamp(max=math.log(max_scale)).exp().to(query)
    return {"query": normalize(query, dim=-1) * scale[:, None, None], "key": normalize(key, dim=-1)}


def _log_of_10(shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, math.log(10.0))


MECHANISM = Mechanism(
    name="cosine",
    family="score",
    summary="Only the angle between query and key counts, times a scale that each head learns.",
    formula=r"s_{qk} = e^{\lambda_h} \, \frac{q \cdot k}{\|q\| \, \|k\|}",
    paper=Paper(
        "Swin Transformer V2: Scaling Up Capacity and Resolution",
        2021,
        "https://arxiv.org/abs/2111.09883",
        "equation 2, without its bias",
    ),
    rule=cosine,
    prepare=prepare,
    parts=(Learned("log_scale", ("num_heads",), _log_of_10, "the logarithm of a head's scale"),),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(
            unscaled.MECHANISM,
            parts={
                "query": lambda query: normalize(query, dim=-1),
                "key": lambda key: normalize(key, dim=-1),
                "log_scale": torch.zeros_like,
            },
        ),
    ),
    examples=({"max_scale": 100.0}, {"max_scale": 2.0}),
)
