r"""What is left of one token when a later one looks back: the product of the decays between the two.

    scores[i, j] = sum_d query[i, d] key[j, d] prod_{j < t <= i} decay[t, d],   and 0 where j > i

Such a product is often written as a ratio of two running products, or as a difference of two sums of logarithms. Both
are 0 / 0 or inf - inf where a decay is 0, and overflow where decays are small. Here neighbouring blocks are joined
again and again: from j to the end of the left block, times from the start of the right block to i. That is
multiplication alone, so a decay of exactly 0 is exact, and so is its gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Faded(NamedTuple):
    """Scores within a stretch of tokens, and what is left of each token at the ends of the stretch.

    Attributes:
        scores: `*stretches len len`, 0 above the diagonal.
        since_start: `*stretches len d`, the product of the decays from the first token to this one, both included.
        until_end: `*stretches len d`, the product of the decays after this token.
    """

    scores: Tensor
    since_start: Tensor
    until_end: Tensor


def faded_scores(query: Tensor, key: Tensor, decay: Tensor) -> Faded:
    """The scores of each query with the keys up to its own, where each channel fades by its own decays.

    Args:
        query: `*stretches len d`, where len is a power of two.
        key: `*stretches len d`.
        decay: `*stretches len d`.

    Example:
        >>> one = torch.ones(4, 1)
        >>> faded_scores(one, one, 0.5 * one).scores[3].tolist()
        [0.125, 0.25, 0.5, 1.0]
    """
    query, key, since, until = (x.unsqueeze(-2) for x in (query, key, decay, torch.ones_like(decay)))
    scores = (query * key).sum(-1, keepdim=True)
    while since.shape[-3] > 1:
        (_, late_query), (early_key, _), (early, late) = _pairs(query), _pairs(key), _pairs(since)
        early_until, late_until = _pairs(until)
        upper, lower = _pairs(scores)
        across = (late_query * late) @ (early_key * early_until).mT
        upper, lower = torch.cat([upper, torch.zeros_like(upper)], -1), torch.cat([across, lower], -1)
        scores = torch.cat([upper, lower], -2)
        until = torch.cat([early_until * late[..., -1:, :], late_until], -2)
        since = torch.cat([early, late * early[..., -1:, :]], -2)
        query, key = _joined(query), _joined(key)
    return Faded(*(x.squeeze(-3) for x in (scores, since, until)))


def fade(decay: Tensor) -> Faded:
    """What fades alike in every channel, `*stretches len 1`: it comes out of the sum, and multiplies the scores."""
    one = torch.ones_like(decay)
    return faded_scores(one, one, decay)


def no_fade(key: Tensor) -> Faded:
    """The same for decays of 1: each token sees all of those before it."""
    one = key.new_ones(key.shape[-2], 1)
    return Faded((one * one.mT).tril(), one, one)


def _pairs(blocks: Tensor) -> tuple[Tensor, ...]:
    """The left and the right block of each pair, out of `*stretches blocks size d`."""
    return blocks.unflatten(-3, (blocks.shape[-3] // 2, 2)).unbind(-3)


def _joined(blocks: Tensor) -> Tensor:
    return blocks.reshape(*blocks.shape[:-3], blocks.shape[-3] // 2, 2 * blocks.shape[-2], blocks.shape[-1])
