"""The attention that the tutorial builds, in plain PyTorch.

Written by book/build.py from the tutorial's cells: edit those.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnkit.layers.loading import accept_stored_mask
from attnkit.shapes import (
    Context,
    Keep,
    Key,
    Output,
    Query,
    Tokens,
    Value,
    check_dropout,
    check_heads,
    check_length,
    check_tokens,
)


class SelfAttention(nn.Module):
    """Self-attention with three matrices of shape (d_in, d_out), drawn evenly from 0 to 1.

    Maps (*batch, len, d_in) to (*batch, len, d_out).
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`; anything but floats (*batch, len, d_in) is refused."""
        check_tokens("SelfAttention", x, d_in=self.W_query.shape[0])
        return attend(x @ self.W_query, x @ self.W_key, x @ self.W_value)


class SelfAttentionv2(nn.Module):
    """Self-attention with three `nn.Linear`, whose weights are stored as (d_out, d_in).

    Maps (*batch, len, d_in) to (*batch, len, d_out).
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`; anything but floats (*batch, len, d_in) is refused."""
        check_tokens("SelfAttentionv2", x, d_in=self.W_query.in_features)
        return attend(self.W_query(x), self.W_key(x), self.W_value(x))


def causal_mask(q_len: int, kv_len: int, device: torch.device | None = None) -> Keep:
    """Which keys a query may read: True up to its own position. The last query stands at the last key."""
    return torch.ones(q_len, kv_len, dtype=torch.bool, device=device).tril(kv_len - q_len)


def attend(
    query: Query,
    key: Key,
    value: Value,
    mask: Keep | None = None,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Context:
    """The context: scores, hidden where `mask` is False, become weights, and the weights mix `value`.

    A query that may read nothing gets zeros.
    """
    scores = query @ key.mT / key.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ value


class CausalAttention(nn.Module):
    """Self-attention that reads only the past, with dropout on the weights.

    Maps (*batch, len, d_in) to (*batch, len, d_out), len up to context_length.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        check_dropout("CausalAttention", dropout)
        self.d_out, self.context_length = d_out, context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        accept_stored_mask(self)

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`, from itself and the tokens before it."""
        check_tokens("CausalAttention", x, d_in=self.W_query.in_features)
        check_length("CausalAttention", x, self.context_length)
        mask = causal_mask(x.shape[-2], x.shape[-2], device=x.device)
        return attend(self.W_query(x), self.W_key(x), self.W_value(x), mask, self.dropout)


class MultiHeadAttentionWrapper(nn.Module):
    """Several `CausalAttention` side by side, their contexts put one after another.

    Maps (*batch, len, d_in) to (*batch, len, d_out * num_heads): d_out is the width of each head.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_heads("MultiHeadAttentionWrapper", d_out * num_heads, num_heads)
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)
        )

    def forward(self, x: Tokens) -> Output:
        """Each head's context for each token of `x`, head 0 first."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(*batch, len, num_heads * head_dim) to (*batch, num_heads, len, head_dim): a head is a run of neighbours."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def merge_heads(context: Tensor) -> Tensor:
    """(*batch, num_heads, len, head_dim) to (*batch, len, num_heads * head_dim): the way back."""
    return context.transpose(-3, -2).flatten(-2)


class MultiHeadAttention(nn.Module):
    """Causal attention by `num_heads` heads of d_out / num_heads numbers each, and a last projection.

    Maps (*batch, len, d_in) to (*batch, len, d_out), len up to context_length.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_dropout("MultiHeadAttention", dropout)
        check_heads("MultiHeadAttention", d_out, num_heads)
        self.d_out, self.num_heads, self.head_dim = d_out, num_heads, d_out // num_heads
        self.context_length = context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        accept_stored_mask(self)

    def forward(self, x: Tokens) -> Output:
        """One vector for each token of `x`, from itself and the tokens before it."""
        check_tokens("MultiHeadAttention", x, d_in=self.W_query.in_features)
        check_length("MultiHeadAttention", x, self.context_length)
        query = split_heads(self.W_query(x), self.num_heads)
        key = split_heads(self.W_key(x), self.num_heads)
        value = split_heads(self.W_value(x), self.num_heads)
        return self.out_proj(merge_heads(self.attend(query, key, value)))

    def attend(self, query: Query, key: Key, value: Value) -> Context:
        """What each head reads. The package does just this line in another way."""
        mask = causal_mask(query.shape[-2], key.shape[-2], device=query.device)
        return attend(query, key, value, mask, self.dropout)
