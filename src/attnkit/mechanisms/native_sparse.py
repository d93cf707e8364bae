r"""Native sparse attention: three views of the past, each weighed by a gate of the query.

    context = gate_1 * over means of spans + gate_2 * over chosen blocks + gate_3 * over a window

The means are of `pool_tokens` keys, one every `stride_tokens`; a span is read once all of its keys may be. The weights
that the spans get choose the blocks: a block counts what its spans get, times the strides that they share, summed over
the heads that share a key. The query's own block, the one before and the first are chosen before all others, and count
in `top_k`. The choice has no gradient; the spans have. Printed equation 9 counts blocks and spans from 1.

The paper gives each branch keys and values of its own, and makes a span's mean by an MLP with positions. Here, as in
the public kernels of flash-linear-attention, one key and value serve all branches, and a span's mean has learned
weights, equal at first; so rotary positions turn all branches alike, and the context is weights times values. Those
kernels know one size for spans and blocks, without overlap; and they take the mean of heads where the paper has a sum,
which ranks the same.

Spans take memory for q_len x kv_len / stride_tokens. Means are made anew in each call, also from a cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, Projected, mixed, shared
from attnkit.mechanism.chosen import attended, by_blocks, check_counts, highest, kept_rows
from attnkit.mechanisms import causal, sliding_window
from attnkit.rule import Rule
from attnkit.shapes import Context, Key, Query, Value


def native_sparse(
    query: Query,
    key: Key,
    value: Value,
    *,
    gates: Tensor,
    pool: Tensor,
    pool_tokens: int = 32,
    stride_tokens: int = 16,
    block_tokens: int = 64,
    top_k: int = 16,
    window: int = 512,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        gates: `*batch heads q_len 3`, for spans, blocks and window.
        pool: (2, kv_heads, pool_tokens), what the keys of a span are multiplied by, and its values.
        pool_tokens: how many tokens a span has.
        stride_tokens: how far one span begins after another; it divides pool_tokens and block_tokens.
        block_tokens: how many keys a chosen block has.
        top_k: how many blocks a query reads, those that it always reads included.
        window: how many positions the window has, the query's own included.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
        mask: where each query may look.

    Raises:
        OptionError: an option counts nothing, or `stride_tokens` does not divide the others.
    """
    call = _Call(pool_tokens, stride_tokens, block_tokens, top_k, window, q_start, dropout, mask)
    spans = (_pooled(side, part, call) for side, part in zip((key, value), pool, strict=True))
    return call.context(query, key, value, gates, *spans)


@dataclass(frozen=True)
class _Call:
    """The options of a call, in its order."""

    pool_tokens: int
    stride_tokens: int
    block_tokens: int
    top_k: int
    window: int
    q_start: int
    dropout: float
    mask: Mask

    def __post_init__(self) -> None:
        names = ("pool_tokens", "stride_tokens", "block_tokens", "top_k", "window")
        check_counts("native_sparse", **{name: getattr(self, name) for name in names})
        for name in ("pool_tokens", "block_tokens"):
            if (length := getattr(self, name)) % self.stride_tokens:
                raise OptionError(
                    where="native_sparse",
                    what=f"{name}={length} is no multiple of stride_tokens={self.stride_tokens}",
                    fix=f"{name}={-(-length // self.stride_tokens) * self.stride_tokens}, a number of whole strides",
                )

    def context(
        self, query: Query, key: Key, value: Value, gates: Tensor, span_key: Tensor, span_value: Tensor
    ) -> Context:
        """The three views, each by its gate."""
        whole, some = [], []
        for _, keep in kept_rows(self.mask, query, key, self.q_start):
            whole.append(_spans(keep, self).all(-1))
            some.append(by_blocks(keep, self.block_tokens).any(-1))
        scores = query @ shared(span_key, query.shape[-3]).mT * query.shape[-1] ** -0.5
        coarse = normalizers.Softmax()(scores, torch.cat(whole, -2))
        ranks = self.ranks(coarse.detach(), key).masked_fill(~torch.cat(some, -2), -torch.inf)
        chosen, start, dropout = highest(ranks, self.top_k), self.q_start, self.dropout
        place: dict[str, Any] = {"block_tokens": self.block_tokens, "mask": self.mask, "q_start": start}
        near = Rule(mask=self.mask & masks.window(self.window), dropout=dropout)
        views = (
            mixed(coarse, span_value, dropout),
            attended(query, key, value, chosen, dropout=dropout, **place),
            near(query, key, value, q_start=start, training=dropout > 0),
        )
        return (torch.stack(views, -1) * gates.unsqueeze(-2)).sum(-1)

    def ranks(self, coarse: Tensor, key: Key) -> Tensor:
        """How well each block suits the heads that share a key, `*batch kv_heads q_len blocks`: equations 9 and 10.

        The first block, the one before the query's and its own stand above all others, in this order.
        """
        precise = torch.promote_types(coarse.dtype, torch.float32)
        span = torch.arange(coarse.shape[-1], device=key.device)[:, None] * self.stride_tokens
        block = torch.arange(-(-key.shape[-2] // self.block_tokens), device=key.device)
        begin, place = (
            block * self.block_tokens,
            torch.arange(coarse.shape[-2], device=key.device) + self.q_start,
        )
        both = (span + self.pool_tokens).minimum(begin + self.block_tokens) - span.maximum(begin)
        strides = (both.clamp(min=0) // self.stride_tokens).to(precise)
        ranks = coarse.to(precise).unflatten(-3, (key.shape[-3], -1)).sum(-3) @ strides
        ranks = ranks.to(precise)  # autocast multiplies in half precision
        own, most = place[:, None] // self.block_tokens, torch.finfo(precise).max
        for where, rank in ((block == 0, most / 4), (block == own - 1, most / 2), (block == own, most)):
            ranks = ranks.masked_fill(where, rank)
        return ranks


def _spans(tensor: Tensor, call: _Call) -> Tensor:
    """The last axis in spans, `*axes spans pool_tokens`; one that would not be whole is none."""
    if tensor.shape[-1] < call.pool_tokens:
        return tensor.new_zeros(*tensor.shape[:-1], 0, call.pool_tokens)
    return tensor.unfold(-1, call.pool_tokens, call.stride_tokens)


def _pooled(tokens: Tensor, pool: Tensor, call: _Call) -> Tensor:
    """What stands for each span, `*batch kv_heads spans width`."""
    return torch.einsum("...hdsp,hp->...hsd", _spans(tokens.mT, call), pool)


def _mean(shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, 1 / shape[-1])


def _only(number: int) -> Callable[[Tensor], Tensor]:
    """Gates that let one branch through."""
    return lambda gates: torch.zeros_like(gates).index_fill(
        -1, torch.tensor([number], device=gates.device), 1
    )


MECHANISM = Mechanism(
    name="native_sparse",
    family="selection",
    summary="Means of spans, the blocks that they point to, and a window, each weighed by a gate.",
    formula=r"\mathrm{context} = g_1 \, \mathrm{Attn}(q, \bar K, \bar V) + g_2 \, \mathrm{Attn}(q, K_{\mathrm{top}}, "
    r"V_{\mathrm{top}}) + g_3 \, \mathrm{Attn}(q, K_{\mathrm{near}}, V_{\mathrm{near}})",
    paper=Paper(
        "Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention",
        2025,
        "https://arxiv.org/abs/2502.11089",
        "equations 5 to 12",
    ),
    attend=native_sparse,
    parts=(
        Projected(
            "gates", of="query", width=3, then=torch.sigmoid, meaning="one for spans, blocks and window"
        ),
        Learned(
            "pool", (2, "num_kv_heads", "pool_tokens"), _mean, "the weights of a span's keys, and values"
        ),
    ),
    laws=(
        no_future_leak,
        reduces_to(sliding_window.MECHANISM, theirs={"window": 3}, parts={"gates": _only(2)}, window=3),
        reduces_to(causal.MECHANISM, parts={"gates": _only(1)}, top_k=64),
    ),
    examples=(
        {"pool_tokens": 2, "stride_tokens": 1, "block_tokens": 1, "top_k": 4, "window": 2},
        {"pool_tokens": 2, "stride_tokens": 2, "block_tokens": 2, "top_k": 2, "window": 3},
    ),
)
