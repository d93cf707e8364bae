"""What a mask means where keys are summed up before any query sees them: a key is kept for all queries, or left out.

    kept(k) = keep(q, k) for every query q;    in the causal case, for every query q >= k, and for none before

Padding can be hidden so. A mask of another form is refused, since sums cannot leave a key out for some queries alone.
"""

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks import Area, Full, Mask
from attnkit.masks.area import UNLIMITED
from attnkit.shapes import Key, Query


def keys_kept(where: str, mask: Mask, query: Query, key: Key, q_start: int, *, fix: str) -> Tensor:
    """Which keys the mask keeps, `*batch kv_len`, the same for all queries.

    Args:
        where: who asks, for the message.
        mask: in positions.
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        q_start: the position of the first query.
        fix: what to write instead of another mask.

    Raises:
        OptionError: the mask hides a key from some queries alone.
    """
    some, every = _over(mask, query, key, q_start)
    if (some & ~every).any():
        raise OptionError(
            where=where,
            what=f"{mask!r} hides keys from some queries alone; here keys are summed up, once for all queries",
            fix=fix,
        )
    return some


def past_kept(
    where: str, mask: Mask, query: Query, key: Key, q_start: int, *, fix: str
) -> tuple[Tensor, bool]:
    """Which keys the mask keeps, `*batch kv_len`, and whether for the queries from each key on alone.

    Raises:
        OptionError: it is neither the same for all queries nor causal with padding.
    """
    some, every = _over(mask, query, key, q_start)
    if not (some & ~every).any():
        return some, False
    some, every = _over(mask, query, key, q_start, near=0)
    if (some & ~every).any() or _over(mask, query, key, q_start, far=-1)[0].any():
        raise OptionError(
            where=where,
            what=f"{mask!r} is neither the same for all queries nor causal; "
            "a sum of the past cannot leave a key out for some queries alone",
            fix=fix,
        )
    return some, True


def _over(
    mask: Mask, query: Query, key: Key, q_start: int, near: int = -UNLIMITED, far: int = UNLIMITED
) -> tuple[Tensor, Tensor]:
    """For each key, whether some and whether every query reads it, of those at a distance from `near` to `far`."""
    q_len, kv_len = query.shape[-2], key.shape[-2]
    if isinstance(mask, Full):
        kept = torch.ones(kv_len, dtype=torch.bool, device=key.device)
        return kept, kept
    tokens = torch.arange(kv_len)
    first = torch.full_like(tokens, q_start)
    some, every = mask.over(Area(first, first + q_len, tokens, tokens + 1, near, far))
    if (some & ~every).any():  # what is said of areas may be less than is true
        keep = mask.dense(q_len, kv_len, q_start=q_start)
        distance = torch.arange(q_start, q_start + q_len)[:, None] - tokens
        inside = (distance >= near) & (distance <= far)
        some, every = (keep & inside).any(-2), (keep | ~inside).all(-2)
    return some.to(key.device), every.to(key.device)


def for_tokens(kept: Tensor) -> Tensor:
    """`kept`, `*batch len`, in axes that broadcast to `*batch heads len width`."""
    return kept.unsqueeze(-2).unsqueeze(-1)


def refuse_dropout(where: str, dropout: float) -> None:
    """Refuse a dropout above 0 where no weights are written out that could be dropped.

    Raises:
        OptionError: it is above 0.
    """
    if dropout:
        raise OptionError(
            where=where,
            what=f"weights are never written out, so that none can be dropped; got dropout={dropout}",
            fix="dropout=0.0; torch.nn.Dropout after the layer drops numbers of its output",
        )
