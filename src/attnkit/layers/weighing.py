"""The weights of a layer of attention, written out."""

from torch import Tensor

from attnkit.layers.attention import Attention
from attnkit.layers.checks import as_mask, check_call, check_mask
from attnkit.masks import Mask


def weights_of(
    layer: Attention, x: Tensor, memory: Tensor | None = None, *, mask: Mask | Tensor | None = None
) -> Tensor:
    """How much each token of `x` reads of each key: what `layer` mixes values by, written out.

    Args:
        layer: of any mechanism.
        x: (batch, len, d_model).
        memory: as in the layer's `forward`.
        mask: as in the layer's `forward`.

    Returns:
        (batch, num_heads, len, kv_len).

    Raises:
        OptionError: the mechanism has no weights.

    Example:
        >>> import torch
        >>> layer = Attention(24, 4, mechanism="causal")
        >>> weights_of(layer, torch.randn(2, 3, 24))[0, 0].triu(1).sum().item()
        0.0
    """
    check_call(layer, x, memory, None)
    kv_len = x.shape[-2] if memory is None else memory.shape[-2]
    check_mask(mask, x.shape[:-2], kv_len, None)
    q_start = kv_len - x.shape[-2]
    tensors = layer._tensors(x, memory, None, q_start=q_start)
    return layer.bound.weighed(tensors, layer.sizes, mask=as_mask(mask, 0), q_start=q_start)
