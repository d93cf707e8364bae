"""PyTorch's fused `scaled_dot_product_attention`.

Two traps are kept away from here: its `is_causal` puts the first query at the first key (ours puts the
last at the last), and its `dropout_p` acts in evaluation too. One stays: fused kernels have no second
derivative, and say so only when it is asked of them; `backend="eager"` has it.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attnkit.masks import Causal
from attnkit.normalizers import Softmax
from attnkit.request import Request
from attnkit.shapes import Context

name = "sdpa"


def refusal(request: Request) -> str | None:
    """Why `scaled_dot_product_attention` cannot compute `request`; None when it can."""
    if request.steps:
        return "it knows no score steps"
    if request.normalizer != Softmax():
        return f"it always normalises by softmax, not by {request.normalizer!r}"
    if request.dropout and request.generator is not None:
        return "its dropout draws from PyTorch's own generator alone"
    return None


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    batch = request.query.shape[:-3]
    options = _mask_arguments(request)
    if request.group > 1:
        options["enable_gqa"] = True
    context = scaled_dot_product_attention(
        _one_batch_axis(request.query),
        _one_batch_axis(request.key),
        _one_batch_axis(request.value),
        dropout_p=request.dropout,
        scale=request.scale,
        **options,
    )
    return context if len(batch) == 1 else context.reshape(*batch, *context.shape[-3:])


def _mask_arguments(request: Request) -> dict[str, Any]:
    if isinstance(request.mask, Causal):
        if request.q_start == 0:
            return {"is_causal": True}
        if request.q_start >= request.kv_len - 1:
            return {}  # every query stands at the last key or after it: nothing is hidden
    keep = request.keep
    return {"attn_mask": _one_batch_axis(keep) if keep is not None and keep.dim() > 2 else keep}


def _one_batch_axis(tensor: Tensor) -> Tensor:
    """The fused kernels take exactly four axes; other numbers of batch axes would fall to slow code."""
    if tensor.dim() == 4:
        return tensor
    return tensor[None] if tensor.dim() == 3 else tensor.flatten(0, -4)
