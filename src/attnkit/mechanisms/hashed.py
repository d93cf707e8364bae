"""Reformer's attention: a query reads the keys that share a bucket with it in one of several rounds of hashing.

    bucket_r(x) = argmax [x R_r, -x R_r];    keep(q, k) = bucket_r(query_q) = bucket_r(key_k) for some round r

Keys have length 1. A token reads itself only if there is nothing else for it to read. The rotations R are drawn by
`seed` once and for all, so that a token keeps its buckets when others come; the paper draws them anew in each batch.

The paper makes the key of a token of its query. That is a layer whose two projections are one,
`layer.key = layer.query`, with as many kv heads as heads. Where they are two, the hash still compares directions.

This is the softmax over whole buckets, without the chunks of equation 5: the paper sorts tokens by bucket, cuts them
into chunks, and reads a query's chunk and the one before. That saves memory, misses the keys of large buckets, and a
later token can move the cuts. Public code also reads other buckets of the chunk unless told not to. Here a bool is held
for every pair, and the context costs what causal attention costs.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, shared
from attnkit.mechanism.chosen import attended, check_counts, kept_rows
from attnkit.shapes import Context, Key, Query, Value


def hashed(
    query: Query,
    key: Key,
    value: Value,
    *,
    buckets: int = 16,
    rounds: int = 4,
    seed: int = 0,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`, of length 1.
        value: `*batch kv_heads kv_len d_value`.
        buckets: how many there are in a round, an even number.
        rounds: how often tokens are hashed; a query reads what it meets in any of them.
        seed: what the rotations are drawn by.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
        mask: where each query may look.

    Raises:
        OptionError: `buckets` is no even number from 2 upwards, or `rounds` none from 1 upwards.
    """
    check_counts("hashed", rounds=rounds)
    _check_buckets(buckets)
    chosen = _met(query.detach(), key.detach(), (buckets, rounds, seed), mask=mask, q_start=q_start)
    sides = query, key, value
    return attended(*sides, chosen, block_tokens=1, mask=mask, q_start=q_start, dropout=dropout)


def prepare(key: Key) -> dict[str, Tensor]:
    """Keys of length 1: only their direction is hashed and matched."""
    return {"key": normalize(key, dim=-1)}


def _met(query: Query, key: Key, drawing: tuple[int, int, int], *, mask: Mask, q_start: int) -> Tensor:
    """Which keys each query reads, bool `*batch heads q_len kv_len`; rotations by buckets, rounds and seed."""
    rotations = _rotations(query, *drawing)
    asking = bucket_of(query, rotations)
    asked = bucket_of(shared(key, query.shape[-3]), rotations)
    chosen = []
    for rows, keep in kept_rows(mask, query, key, q_start):
        pairs = zip(asking[..., rows, :, None].unbind(-2), asked[..., None, :, :].unbind(-1), strict=True)
        met = torch.stack([one == two for one, two in pairs]).any(0) & keep
        place = torch.arange(q_start + rows.start, q_start + rows.stop, device=query.device)
        itself = place[:, None] == torch.arange(key.shape[-2], device=query.device)
        alone = ~(met & ~itself).any(-1, keepdim=True)
        chosen.append(torch.where(itself, alone & keep, met))
    return torch.cat(chosen, -2)


def bucket_of(tokens: Tensor, rotations: Tensor) -> Tensor:
    """The bucket of each token in each round, `*batch heads len rounds`; rotations are (rounds, head_dim, half)."""
    turned = torch.einsum("...ld,rdb->...lrb", tokens.to(rotations), rotations)
    return torch.cat([turned, -turned], -1).argmax(-1)


def _rotations(query: Query, buckets: int, rounds: int, seed: int) -> Tensor:
    precise = torch.promote_types(query.dtype, torch.float32)
    shape = (rounds, query.shape[-1], buckets // 2)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(query.device, precise)


def _check_buckets(buckets: object) -> None:
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < 2 or buckets % 2:
        raise OptionError(
            where="hashed",
            what=f"buckets come in pairs, one for each sign: 2, 4, 6, ...; got {buckets!r}",
            fix="buckets=2 * (length // 128) or so, for some 64 tokens in each",
        )


MECHANISM = Mechanism(
    name="hashed",
    family="selection",
    summary="A query reads the keys that share a bucket with it in one of several rounds of hashing.",
    formula=r"h_r(x) = \arg\max [x R_r; -x R_r], \quad \mathrm{keep}(q, k) = [\exists r: h_r(q) = h_r(k)]",
    paper=Paper(
        "Reformer: The Efficient Transformer",
        2020,
        "https://arxiv.org/abs/2001.04451",
        "equations 2 to 4 and 6",
    ),
    attend=hashed,
    prepare=prepare,
    laws=(no_future_leak, rows_sum_to_one),
    examples=({"buckets": 4, "rounds": 2}, {"buckets": 2, "rounds": 1}, {"buckets": 8, "rounds": 4}),
)
