"""What a mask means for a recurrence: a token is written into the memory or left out, for all later tokens alike.

    kept(k) = keep(k, k),   and keep(q, k) = kept(k) for each later q

Padding can be hidden so, and `causal` changes nothing. A window cannot: the memory would have to forget single tokens.
"""

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks import Area, Mask


def tokens_kept(where: str, mask: Mask | None, key: Tensor, start: int = 0) -> Tensor | None:
    """Which of the new tokens a mask keeps, `*batch len`; None where it keeps them all.

    Args:
        where: who asks, for the message.
        mask: in the positions of the whole sequence.
        key: `*batch kv_heads len head_dim`, of the new tokens.
        start: the position of the first of them.

    Raises:
        OptionError: the mask hides a token from some of the later ones alone.
    """
    if mask is None:
        return None
    stop = start + key.shape[-2]
    tokens = torch.arange(stop)
    kept = mask.keep(tokens, tokens)
    some, every = mask.over(Area(tokens, torch.full_like(tokens, stop), tokens, tokens + 1))
    if not torch.where(kept, every, ~some).all() and not _alike(mask, kept, start):
        raise OptionError(
            where=where,
            what=f"{mask!r} hides a token from some of the later ones alone; "
            "a recurrence writes a token into its memory for all of them, or leaves it out",
            fix="masks.lengths([5, 3]) for padding; run each document by itself, from an empty state",
        )
    new = kept[..., start:]
    return None if new.all() else new.to(key.device)


def _alike(mask: Mask, kept: Tensor, start: int) -> bool:
    """The same, pair by pair: answers for areas may say less than is true."""
    stop = kept.shape[-1]
    pairs = mask.dense(stop - start, stop, q_start=start)
    later = torch.ones(stop, stop, dtype=torch.bool).tril()[start:]
    return not ((pairs != kept.unsqueeze(-2)) & later).any()
