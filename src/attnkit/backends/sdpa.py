"""PyTorch's fused `scaled_dot_product_attention`.

Its traps are kept away from here: `is_causal` puts the first query at the first key (ours puts the last at the
last); `dropout_p` acts in evaluation too; and on a CPU it leaves its fused kernel, in silence, for values of
another width than the keys and for numbers that do not lie side by side, while a grouped query of one token
is computed head by head. One trap stays: fused kernels have no second derivative, and say so only when it is
asked of them; `backend="eager"` has it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from attnkit.backends import rates
from attnkit.masks import Causal, Full
from attnkit.normalizers import hide, softmax_sink
from attnkit.request import Request
from attnkit.scores import Additive, check_bias
from attnkit.shapes import Context, one_batch_axis

name = "sdpa"
compiles = False


def refusal(request: Request) -> str | None:
    """Why `scaled_dot_product_attention` cannot compute `request`; None when it can."""
    others = [step for step in request.steps if not isinstance(step, Additive)]
    if others:
        name = getattr(others[0], "__name__", others[0])
        return f"of score steps it knows those that add a bias, scores.Additive, and {name} is none"
    softmax, sink = softmax_sink(request.normalizer)
    if not softmax or sink is not None:
        return f"it always normalises by softmax, not by {type(request.normalizer).__name__}"
    if request.dropout and request.generator is not None:
        return "its dropout draws from PyTorch's own generator alone"
    if request.mapped:
        return "torch.func.vmap would run its fused kernel sample by sample"
    return None


def seconds(request: Request) -> float:
    """An estimate of the time of one forward pass."""
    fused = rates.fused_seconds(request)
    if request.dropout or _is_learned(request):
        return rates.CALL_SECONDS + fused * rates.UNFUSED
    if _is_causal(request):
        return rates.CALL_SECONDS + fused / 2
    if reads_all(request):
        return rates.CALL_SECONDS + fused
    written = request.q_len * request.kv_len * (request.query.shape[-3] if request.steps else 1)
    return rates.CALL_SECONDS + fused * rates.MASKED + written / rates.WRITTEN_PAIRS_PER_SECOND


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    *batch, heads, q_len, _ = request.query.shape
    d_value = request.value.shape[-1]
    query, key, value = (
        one_batch_axis(side) for side in _for_the_kernel(request.query, request.key, request.value)
    )
    options = _mask_arguments(request)
    if request.group > 1 and q_len == 1 and len(request.steps) == 0:
        # the heads that share keys become queries that share keys: one matrix product where there were many
        query = query.reshape(query.shape[0], key.shape[1], request.group, query.shape[-1])
    elif request.group > 1:
        options["enable_gqa"] = True
    context = scaled_dot_product_attention(
        query, key, value, dropout_p=request.dropout, scale=request.scale, **options
    )
    return context[..., :d_value].reshape(*batch, heads, q_len, d_value)


def _for_the_kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The CPU's fused kernel wants one width for all, and the numbers of a row side by side."""
    if query.device.type != "cpu":
        return query, key, value
    width = max(query.shape[-1], value.shape[-1])
    padded = [
        side if side.shape[-1] == width else pad(side, (0, width - side.shape[-1]))
        for side in (query, key, value)
    ]
    query, key, value = (side if side.stride(-1) == 1 else side.contiguous() for side in padded)
    return query, key, value


def _biases(request: Request) -> list[Additive]:
    return [step for step in request.steps if isinstance(step, Additive)]


def _is_learned(request: Request) -> bool:
    return any(tensor.requires_grad for step in _biases(request) for tensor in step.parameters())


def _is_causal(request: Request) -> bool:
    """Whether PyTorch's `is_causal`, first query at first key, is this mask, and nothing else is added.

    Not for one query alone: heads that share keys become queries there, which all stand at one position.
    """
    aligned = isinstance(request.mask, Causal) and request.q_start == 0
    return aligned and request.q_len != 1 and len(request.steps) == 0


def reads_all(request: Request) -> bool:
    """Whether every query stands at the last key or after it, so that nothing is hidden or added."""
    after = isinstance(request.mask, Causal) and request.q_start >= request.kv_len - 1
    return len(request.steps) == 0 and (isinstance(request.mask, Full) or after)


def _mask_arguments(request: Request) -> dict[str, Any]:
    if _is_causal(request):
        return {"is_causal": True}
    if reads_all(request):
        return {}
    keep = request.keep
    if len(request.steps) == 0:
        return {"attn_mask": keep if keep is None or keep.dim() == 2 else one_batch_axis(keep)}
    added = hide(_bias(request), keep)
    if added.dim() > 3 and request.query.dim() > 4:
        # axes of 1 are counted as the batch they stand for before they become one
        added = added.expand(*request.query.shape[:-3], *added.shape[-3:])
    return {"attn_mask": one_batch_axis(added)}


def _bias(request: Request) -> Tensor:
    """What the steps add, (heads or 1, q_len or 1, kv_len or 1); batch axes in front where samples differ."""
    head = torch.arange(request.query.shape[-3], device=request.query.device)[:, None, None]
    shape = torch.Size((*request.query.shape[:-1], request.kv_len))
    bias = request.query.new_zeros(1, request.q_len, request.kv_len)
    for step in _biases(request):
        more = step.bias(head, request.q_pos[:, None], request.kv_pos[None, :])
        check_bias(step, more, shape)
        bias = bias + more.to(bias)
    return bias
