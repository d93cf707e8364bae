"""A function of query, key and value, made into a module: fixed projections before it and after it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnkit.layers.teaching import merge_heads, split_heads

HEAD_DIM = 6


class AroundFunction(nn.Module):
    """Self- or cross-attention by a function `f(query, key, value)` on heads.

    Args:
        function: what is checked; `(batch, heads, len, head_dim)` each, the context back.
        num_heads: heads of the query.
        num_kv_heads: heads of key and value.
        d_in: numbers of a token.
        memory_dim: numbers of a token of the memory.
        seed: of the projections.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        num_heads: int,
        num_kv_heads: int,
        d_in: int,
        memory_dim: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.function, self.num_heads, self.num_kv_heads = function, num_heads, num_kv_heads
        self.query = nn.Linear(d_in, num_heads * HEAD_DIM)
        self.key = nn.Linear(memory_dim, num_kv_heads * HEAD_DIM)
        self.value = nn.Linear(memory_dim, num_kv_heads * HEAD_DIM)
        self.output = nn.Linear(num_heads * HEAD_DIM, d_in)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                fan_in = parameter.shape[-1]
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6 * fan_in**-0.5)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """The output (batch, len, d_in)."""
        read = x if memory is None else memory
        query = split_heads(self.query(x), self.num_heads)
        key, value = (split_heads(part(read), self.num_kv_heads) for part in (self.key, self.value))
        return self.output(merge_heads(self.function(query, key, value)))
