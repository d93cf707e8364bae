"""Inputs that show faults: peaked, and of pairwise different sizes."""

import torch
from torch import Tensor


def inputs(
    *,
    q_len: int = 5,
    kv_len: int = 7,
    batch: tuple[int, ...] = (2,),
    heads: int = 3,
    kv_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
    grad: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """A query (*batch, heads, q_len, 4), key (*batch, kv_heads, kv_len, 4) and value (..., kv_len, 8).

    Query and key are three times a normal draw: near-uniform weights would hide every fault.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    shared = heads if kv_heads is None else kv_heads
    tensors = 3 * draw(heads, q_len, 4), 3 * draw(shared, kv_len, 4), draw(shared, kv_len, 8)
    query, key, value = (tensor.to(dtype).requires_grad_(grad) for tensor in tensors)
    return query, key, value
