"""Mixture of block attention: each query reads its own block, and the past blocks whose mean key suits it best.

    gate(q, n) = query_q . mean of the keys of block n;    q reads the top_k blocks by gate, its own first

`top_k` counts the query's own block: `top_k=3` reads at most two past blocks, as in the paper. No gradient goes through
the gate. Where a mask hides a part of a block, the mean is of the keys that the query may read. Of blocks with equal
gates the later one is read.

The choice takes memory for q_len x blocks. What is chosen is a mask of a rule: in tiles it takes memory for the length
alone, and time for each tile in which a query has chosen a key.
"""

import torch
from torch import Tensor

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, shared
from attnkit.mechanism.chosen import attended, by_blocks, check_counts, highest, kept_rows
from attnkit.mechanisms import causal
from attnkit.shapes import Context, Key, Query, Value


def block_top_k(
    query: Query,
    key: Key,
    value: Value,
    *,
    block_tokens: int,
    top_k: int,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        block_tokens: how many keys a block has.
        top_k: how many blocks a query reads, its own included.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
        mask: where each query may look.

    Raises:
        OptionError: `block_tokens` or `top_k` is no whole number from 1 upwards.
    """
    check_counts("block_top_k", block_tokens=block_tokens, top_k=top_k)
    chosen = chosen_blocks(query, key, block_tokens=block_tokens, top_k=top_k, q_start=q_start, mask=mask)
    sides = query, key, value
    return attended(*sides, chosen, block_tokens=block_tokens, mask=mask, q_start=q_start, dropout=dropout)


def chosen_blocks(
    query: Query, key: Key, *, block_tokens: int, top_k: int, q_start: int, mask: Mask = masks.causal
) -> Tensor:
    """Which blocks each query reads, bool `*batch heads q_len blocks`. Arguments as in `block_top_k`."""
    precise = torch.promote_types(query.dtype, torch.float32)
    asking, asked = query.detach().to(precise), shared(key.detach(), query.shape[-3]).to(precise)
    sizes = by_blocks(asked.new_ones(asked.shape[-2]), block_tokens).sum(-1)
    means = by_blocks(asked.mT, block_tokens).sum(-1) / sizes
    chosen = []
    for rows, keep in kept_rows(mask, query, key, q_start):
        place = torch.arange(q_start + rows.start, q_start + rows.stop, device=query.device) // block_tokens
        own = place[:, None] == torch.arange(means.shape[-1], device=query.device)
        gates, count = asking[..., rows, :] @ means, by_blocks(keep, block_tokens).sum(-1)
        in_part = (count > 0) & (count < sizes) & ~own
        if in_part.any():
            scores = (asking[..., rows, :] @ asked.mT).masked_fill(~keep, 0.0)
            gates = torch.where(in_part, by_blocks(scores, block_tokens).sum(-1) / count, gates)
        gates = gates.masked_fill(own, torch.inf).masked_fill(count == 0, -torch.inf)
        chosen.append(highest(gates, top_k))
    return torch.cat(chosen, -2)


MECHANISM = Mechanism(
    name="block_top_k",
    family="selection",
    summary="Each query reads its own block and the past blocks whose mean key suits it best.",
    formula=r"\mathrm{gate}(q, n) = \langle q, \mathrm{mean}(K_n) \rangle, \quad "
    r"\mathrm{keep}(q, k) = [\lfloor k / B \rfloor \in \mathrm{Topk}_n \, \mathrm{gate}(q, n)]",
    paper=Paper(
        "MoBA: Mixture of Block Attention for Long-Context LLMs",
        2025,
        "https://arxiv.org/abs/2502.13189",
        "equations 2 to 6",
    ),
    attend=block_top_k,
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM, top_k=64)),
    examples=(
        {"block_tokens": 2, "top_k": 2},
        {"block_tokens": 3, "top_k": 1},
        {"block_tokens": 1, "top_k": 3},
    ),
)
