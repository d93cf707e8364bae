"""Other people's attention, where it is installed: the same window, or the same causal mask, on the same inputs."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Call = Callable[[], Tensor]


def dense_mask(query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Call:
    """SDPA with the mask written out."""
    return lambda: scaled_dot_product_attention(query, key, value, attn_mask=keep)


def compiled_flex(query: Tensor, key: Tensor, value: Tensor, window: int) -> Call:
    """FlexAttention, compiled, with the block mask that it makes itself."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def keep(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (q - k < window)

    length = query.shape[-2]
    block_mask = create_block_mask(keep, None, None, length, length, device=query.device.type)
    compiled = torch.compile(flex_attention)
    return lambda: compiled(query, key, value, block_mask=block_mask)  # pyright: ignore[reportReturnType]


def local_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Call | str:
    """The package local-attention, with a window that is exact."""
    if not find_spec("local_attention"):
        return "not installed: pip install local-attention"
    from local_attention import LocalAttention  # pyright: ignore[reportMissingImports]

    layer = LocalAttention(
        window_size=window - 1, causal=True, look_backward=1, autopad=True, exact_windowsize=True, dim=None
    ).to(query.device)
    return lambda: layer(query, key, value)


def x_transformers(query: Tensor, key: Tensor, value: Tensor) -> Call | str:
    """x-transformers' causal attention, without its projections."""
    if not find_spec("x_transformers"):
        return "not installed: pip install x-transformers"
    from x_transformers.attend import Attend  # pyright: ignore[reportMissingImports]

    layer = Attend(causal=True, flash=True).to(query.device)
    return lambda: layer(query, key, value)[0]
