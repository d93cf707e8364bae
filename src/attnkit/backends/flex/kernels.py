"""Compiled FlexAttention: one function a variant, each with its own code, so that none pushes out another.

The traps: `torch.compile` counts the kernels of one code object, and from the ninth on runs unfused, with a warning
and a table of q_len x kv_len. `fullgraph=True` makes an error of that, and a fresh function starts the count anew.
The first length would make a kernel for it alone, so lengths are marked as free before it (`with_free`).
"""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from attnkit.backends.flex.pieces import Step, changed_score
from attnkit.masks import Mask

_KERNELS: dict[Any, Callable[..., Any]] = {}
_KERNELS_AT_MOST = 128


class Captured(NamedTuple):
    """What a kernel captures besides the blocks: everything is a tensor or made of them."""

    mask: Mask
    steps: tuple[Step, ...]
    scale: Tensor
    q_start: Tensor
    batch: tuple[
        tuple[Tensor, Tensor], ...
    ]  # how many samples an entry of each axis holds, and the axis's size


def kernel(key: Any, *, afresh: bool = False) -> Callable[..., Any]:
    """The compiled function of a variant; made when first asked, and again `afresh`."""
    if afresh or key not in _KERNELS:
        if len(_KERNELS) >= _KERNELS_AT_MOST:
            _KERNELS.pop(next(iter(_KERNELS)))
        own = types.FunctionType(attend.__code__.replace(), attend.__globals__, attend.__name__)
        _KERNELS[key] = torch.compile(own, fullgraph=True)
    return _KERNELS[key]


def with_free(tensor: Tensor, *axes: int) -> Tensor:
    """The same numbers as a tensor whose `axes` may have other lengths in the next call, if they are not 1 now."""
    own = tensor.view(tensor.shape)  # marks stay on the tensor, so not on the caller's
    for axis in axes:
        if own.shape[axis] > 1:
            torch._dynamo.maybe_mark_dynamic(own, axis % own.dim())
    return own


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: tuple[Tensor, ...],
    captured: Captured,
    with_lse: bool,
) -> Any:
    """The context, and with it the log-sum-exp where `with_lse`."""
    mask, steps, scale, q_start, batch = captured

    def mask_mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        index = (b,) if len(batch) == 1 else tuple(b // held % size for held, size in batch)
        kept = mask.sample(index).keep((q_idx + q_start)[None, None], kv_idx[None, None])  # pyright: ignore
        return kept[0, 0]

    def score_mod(score: Tensor, b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        precise = torch.promote_types(score.dtype, torch.float32)
        q_pos, changed = q_idx + q_start, score.to(precise)
        for held, strides, lowest in steps:
            if strides is None:
                changed = changed_score(held, changed, h, q_pos, kv_idx).to(precise)
                continue
            row, column = (q_idx, kv_idx) if lowest is None else (q_pos - kv_idx - lowest, 0)
            places = zip(strides, (b, h, row, column), strict=True)
            changed = (changed + held[sum(stride * place for stride, place in places)]).to(precise)
        # a half would be written into memory for float32 on a CPU (PyTorch 2.13), and nothing would be said
        return changed

    block_mask = BlockMask((query.shape[-2], key.shape[-2]), *blocks, mask_mod=mask_mod)  # pyright: ignore
    return flex_attention(
        (query * scale).to(query.dtype),
        key,
        value,
        score_mod=score_mod if steps else None,
        block_mask=block_mask,
        scale=1.0,
        enable_gqa=True,
        return_aux=AuxRequest(lse=True) if with_lse else None,
    )
