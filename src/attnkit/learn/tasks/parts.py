"""Causal multi-head attention from parts that can be exchanged one by one, each for a faulty one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Split = Callable[[Tensor, int], Tensor]


def split(x: Tensor, num_heads: int) -> Tensor:
    """(batch, len, heads * head_dim) -> (batch, heads, len, head_dim)."""
    return x.reshape(*x.shape[:2], num_heads, -1).transpose(1, 2)


def split_by_view(x: Tensor, num_heads: int) -> Tensor:
    """The same shape, words and heads mixed."""
    return x.reshape(x.shape[0], num_heads, x.shape[1], -1)


def merge(context: Tensor) -> Tensor:
    """(batch, heads, len, head_dim) -> (batch, len, heads * head_dim)."""
    return context.transpose(1, 2).flatten(2)


def merge_by_reshape(context: Tensor) -> Tensor:
    """The same shape, words and heads mixed."""
    return context.reshape(context.shape[0], context.shape[2], -1)


def past(length: int, diagonal: int = 0) -> Tensor:
    """Word i may read up to word i + `diagonal`: bool (len, len), True keeps."""
    return torch.ones(length, length, dtype=torch.bool).tril(diagonal)


def shares(scores: Tensor, keep: Tensor, fill: float = -math.inf) -> Tensor:
    """Softmax over the kept keys; a row without any is zero."""
    return scores.masked_fill(~keep, fill).softmax(-1).nan_to_num()


def causal_shares(scores: Tensor) -> Tensor:
    """Softmax over each word and those before it."""
    return shares(scores, past(scores.shape[-1]))


@dataclass(frozen=True)
class Parts:
    """The parts of an attention; called with words and matrices, it attends.

    Args:
        split: words to heads.
        merge: heads to words.
        weigh: scores to weights.
        divisor: from the width of all heads and of one, what the scores are divided by.
        chosen: from queries, keys and values, those that are used.
        projected: whether the last matrix is used.
    """

    split: Split = split
    merge: Callable[[Tensor], Tensor] = merge
    weigh: Callable[[Tensor], Tensor] = causal_shares
    divisor: Callable[[int, int], float] = lambda width, head_dim: head_dim**0.5
    chosen: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] = lambda query, key, value: (
        query,
        key,
        value,
    )
    projected: bool = True

    def __call__(
        self, x: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor, W_out: Tensor, num_heads: int
    ) -> Tensor:
        """From x (batch, len, d_in), matrices (d_in, d_out) and W_out (d_out, d_out): (batch, len, d_out)."""
        width = W_query.shape[1]
        query, key, value = self.chosen(x @ W_query, x @ W_key, x @ W_value)
        query, key, value = (self.split(part, num_heads) for part in (query, key, value))
        scores = query @ key.mT / self.divisor(width, width // num_heads)
        output = self.merge(self.weigh(scores) @ value)
        return output @ W_out if self.projected else output
