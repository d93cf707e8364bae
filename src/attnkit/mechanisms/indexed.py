r"""DeepSeek sparse attention: a small indexer scores the past, and a query reads the `top_k` keys that it ranks first.

    index(q, k) = sum over index heads j of  weight_qj * relu(index_query_qj . index_key_k)

One choice serves all heads. The choice has no gradient, so nothing that is read trains the indexer: the paper trains
it by a loss of its own, towards the weights of the heads, which is `indexer_loss`. Without it the choice stays as
random as the first parameters are.

As in the public code, the index is multiplied by (index_heads * index_dim) ** -0.5; equation 1 has no such factor, and
the ranks are the same. What that code does besides is left out: a LayerNorm of the index keys, their rotation by
position, 8-bit numbers. Where no index head fires the index is 0; of keys with equal indices the later one is read.

The index takes time and memory (a bool) for every pair. The context costs what causal attention costs: the gain of
kernels that fetch single keys is not had here.
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.errors import ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Projected, kept, shared
from attnkit.mechanism.chosen import Chosen, check_counts, highest, kept_rows
from attnkit.mechanisms import causal
from attnkit.rule import Rule
from attnkit.shapes import Context, Key, Query, Scores, Value


def indexed(
    query: Query,
    key: Key,
    value: Value,
    *,
    index_query: Tensor,
    index_key: Tensor,
    index_weight: Tensor,
    top_k: int = 2048,
    index_heads: int = 4,
    index_dim: int = 32,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        index_query: `*batch index_heads q_len index_dim`.
        index_key: `*batch 1 kv_len index_dim`.
        index_weight: `*batch index_heads q_len 1`.
        top_k: how many keys a query reads.
        index_heads: how many heads the indexer has.
        index_dim: how many numbers each of them has.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
        mask: where each query may look.

    Raises:
        OptionError: `top_k`, `index_heads` or `index_dim` is no whole number from 1 upwards.
        ShapeError: `index_query` is of another size.
    """
    check_counts("indexed", top_k=top_k, index_heads=index_heads, index_dim=index_dim)
    _check_index(index_query, index_heads, index_dim)
    chosen = _chosen_keys(index_query, index_key, index_weight, top_k=top_k, q_start=q_start, mask=mask)
    rule = Rule(mask=mask & Chosen(chosen, 1, q_start), dropout=dropout)
    return rule(query, key, value, q_start=q_start, training=dropout > 0)


@torch.no_grad()
def _chosen_keys(
    index_query: Tensor, index_key: Tensor, index_weight: Tensor, *, top_k: int, q_start: int, mask: Mask
) -> Tensor:
    """Which keys each query reads, bool `*batch q_len kv_len`."""
    chosen = []
    for rows, keep in kept_rows(mask, index_query, index_key, q_start):
        index = index_scores(index_query[..., rows, :], index_key, index_weight[..., rows, :])
        chosen.append(highest(index.masked_fill(~keep, -torch.inf), top_k).squeeze(-3))
    return torch.cat(chosen, -2)


def _check_index(index_query: Tensor, heads: int, dim: int) -> None:
    if (index_query.shape[-3], index_query.shape[-1]) != (heads, dim):
        raise ShapeError(
            where="indexed",
            what=f"index_query {tuple(index_query.shape)} is not for {heads} heads of {dim} numbers",
            fix=f"index_heads={index_query.shape[-3]}, index_dim={index_query.shape[-1]}",
        )


def index_scores(index_query: Tensor, index_key: Tensor, index_weight: Tensor) -> Scores:
    """The index of each pair, `*batch 1 q_len kv_len`, in float32 at least. Shapes as in `indexed`."""
    precise = torch.promote_types(index_query.dtype, torch.float32)
    asking, asked, weight = (part.to(precise) for part in (index_query, index_key, index_weight))
    factor = (asking.shape[-3] * asking.shape[-1]) ** -0.5
    return factor * ((asking @ asked.mT).relu() * weight).sum(-3, keepdim=True)


def indexer_loss(
    query: Query,
    key: Key,
    *,
    index_query: Tensor,
    index_key: Tensor,
    index_weight: Tensor,
    mask: Mask = masks.causal,
    top_k: int | None = None,
) -> Tensor:
    """How far the softmax of the index is from the weights of the heads: what trains an indexer.

    It is the divergence KL(p || softmax(index)) of equations 3 and 4, where p is the mean of the heads' weights. No
    gradient reaches query and key. The last query stands at the last key.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        index_query: `*batch index_heads q_len index_dim`.
        index_key: `*batch 1 kv_len index_dim`.
        index_weight: `*batch index_heads q_len 1`.
        mask: where each query may look.
        top_k: both sides over the keys that are chosen, as in sparse training; over all keys when not given, as in
            the dense warm-up that comes before.

    Returns:
        One number: the mean over queries that read anything.
    """
    index = index_scores(index_query, index_key, index_weight)
    keep = kept(mask, index, key.shape[-2] - query.shape[-2])
    if top_k is not None:
        keep = keep & highest(index.detach().masked_fill(~keep, -torch.inf), top_k)
    query, key = query.detach().to(index), shared(key.detach(), query.shape[-3]).to(index)
    heads = normalizers.Softmax()(query @ key.mT * query.shape[-1] ** -0.5, keep).mean(-3, keepdim=True)
    told = index.masked_fill(~keep, torch.finfo(index.dtype).min).log_softmax(-1)
    divergence = (torch.special.xlogy(heads, heads) - heads * told.masked_fill(~keep, 0.0)).sum(-1)
    reads = keep.any(-1).expand_as(divergence)
    return divergence.where(reads, 0.0).sum() / reads.sum().clamp(min=1)


MECHANISM = Mechanism(
    name="indexed",
    family="selection",
    summary="A small indexer scores the past, and each query reads the top_k keys that it ranks first.",
    formula=r"I_{q,k} = \sum_j w_{q,j} \, \mathrm{ReLU}(q^I_{q,j} \cdot k^I_k), \quad "
    r"\mathrm{keep}(q, k) = [k \in \mathrm{Topk}_k \, I_{q,k}]",
    paper=Paper(
        "DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models",
        2025,
        "https://arxiv.org/abs/2512.02556",
        "equations 1 and 2",
    ),
    attend=indexed,
    parts=(
        Projected(
            "index_query", of="query", heads="index_heads", width="index_dim", meaning="what the indexer asks"
        ),
        Projected("index_key", of="key", heads=1, width="index_dim", meaning="what the indexer is asked for"),
        Projected("index_weight", of="query", heads="index_heads", meaning="how much each index head counts"),
    ),
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM, top_k=64)),
    examples=(
        {"top_k": 3, "index_heads": 2, "index_dim": 4},
        {"top_k": 2, "index_heads": 3, "index_dim": 2},
    ),
)
