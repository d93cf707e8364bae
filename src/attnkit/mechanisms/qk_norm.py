"""Query-key normalisation: both are brought to one size before they meet, and learn a gain for each number.

    score = (query_gain * rms_norm(query)) . (key_gain * rms_norm(key)) / sqrt(head_dim)
    rms_norm(x) = x / sqrt(mean(x^2) + eps)

Scores cannot grow with the length of the vectors, which keeps training stable. The paper normalises by LayerNorm, which
also takes the mean away; Qwen3 and Gemma 3 by RMSNorm, as here, with one gain for all heads of a layer. OLMo 2
normalises all heads together, before they are split, which is another thing. The trap: Gemma stores its gain minus one.
Rotary positions, `attnkit.Attention(positions=...)`, turn what is normalised, as in Qwen3.
"""

import math

import torch
from torch import Tensor

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper
from attnkit.mechanisms import causal, cosine
from attnkit.rule import Rule
from attnkit.shapes import Key, Query


def qk_norm(*, mask: Mask = masks.causal) -> Rule:
    """The rule, for queries and keys that are normalised.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask)


def prepare(
    query: Query, key: Key, *, query_gain: Tensor, key_gain: Tensor, eps: float = 1e-6
) -> dict[str, Tensor]:
    """Queries and keys of one size, times their gains.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        query_gain: (head_dim,), what each number of a query is multiplied by.
        key_gain: (head_dim,), what each number of a key is multiplied by.
        eps: what is added to the mean of the squares, above 0.

    Raises:
        OptionError: `eps` is no finite number above 0.
    """
    if not isinstance(eps, int | float) or isinstance(eps, bool) or not 0 < eps < math.inf:
        raise OptionError(
            where="qk_norm",
            what=f"eps keeps a vector of zeros from being divided by zero, a finite number above 0; got {eps!r}",
            fix="eps=1e-6, as in Qwen3",
        )
    return {
        "query": query_gain.to(query) * _of_one_size(query, eps),
        "key": key_gain.to(key) * _of_one_size(key, eps),
    }


def _of_one_size(x: Tensor, eps: float) -> Tensor:
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    return (precise * torch.rsqrt(precise.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


MECHANISM = Mechanism(
    name="qk_norm",
    family="score",
    summary="Query and key are brought to one size before they meet.",
    formula=r"s_{qk} = \frac{(g_q \odot \mathrm{norm}(q)) \cdot (g_k \odot \mathrm{norm}(k))}{\sqrt{d}}",
    paper=Paper(
        "Scaling Vision Transformers to 22 Billion Parameters",
        2023,
        "https://arxiv.org/abs/2302.05442",
        "section 2, query/key normalization",
    ),
    rule=qk_norm,
    prepare=prepare,
    parts=(
        Learned("query_gain", ("head_dim",), torch.ones, "what each number of a query is multiplied by"),
        Learned("key_gain", ("head_dim",), torch.ones, "what each number of a key is multiplied by"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        # vectors that have this size already are left as they are
        reduces_to(
            causal.MECHANISM,
            parts={
                "query": lambda query: _of_one_size(query, 1e-30),
                "key": lambda key: _of_one_size(key, 1e-30),
                "query_gain": torch.ones_like,
                "key_gain": torch.ones_like,
            },
            eps=1e-15,
        ),
        # all vectors have the length sqrt(head_dim)
        reduces_to(
            cosine.MECHANISM,
            parts={"query_gain": torch.ones_like, "key_gain": torch.ones_like},
            given=lambda tensors: {
                "log_scale": torch.full(tensors["query"].shape[1:2], math.log(tensors["key"].shape[-1]) / 2)
            },
            eps=1e-15,
        ),
    ),
)
