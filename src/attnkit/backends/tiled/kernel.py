"""The one file that knows which code computes a batch of tiles: PyTorch's own fused kernel, or the formula written out.

    score_k = scale * query @ key_k + bias_k;    lse = log(sum_k exp(score_k))
    context = sum_k exp(score_k - lse) value_k

The fused kernel on a CPU is private to PyTorch, since `scaled_dot_product_attention` hides the log-sum-exp that puts
tiles together. Where it is missing, and on every other device, the formula takes its place.
"""

import math

import torch
from torch import Tensor

try:
    _FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    _BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
except AttributeError:  # PyTorch may take back what is private
    _FORWARD = _BACKWARD = None


def is_fused(device: torch.device) -> bool:
    """Whether PyTorch's fused kernel runs on `device`."""
    return _FORWARD is not None and device.type == "cpu"


def forward(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """The context and log-sum-exp of each tile.

    Args:
        query: (tiles, lanes, rows, head_dim), any strides but the last.
        key: (tiles, lanes, width, head_dim).
        value: like `key`.
        bias: added to the scaled scores; it broadcasts to (tiles, lanes, rows, width). -inf hides.
        causal: row i reads the keys up to i alone, besides what `bias` hides.
        scale: multiplies the scores.

    Returns:
        The context (tiles, lanes, rows, head_dim), and the log-sum-exp (tiles, lanes, rows) in float32 or float64. A
        row that reads nothing gets zeros and any number.
    """
    if is_fused(query.device):
        assert _FORWARD is not None
        return _FORWARD(query, key, value, 0.0, causal, attn_mask=bias, scale=scale)
    scores = _scores(query, key, bias, causal, scale)
    lse = scores.logsumexp(dim=-1)
    weights = (scores - _finite(lse)[..., None]).exp_()
    return (weights @ value.to(weights)).to(query), lse


def backward(
    gradient: Tensor, tile: tuple[Tensor, ...], *, bias: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value of each tile; shapes and options as in `forward`.

    Args:
        gradient: of the context that all tiles of a row make together.
        tile: query, key, value, that context, and the log-sum-exp of the whole row (finite).
        bias: as in `forward`.
        causal: as in `forward`.
        scale: as in `forward`.
    """
    query, key, value, context, lse = tile
    if is_fused(query.device):
        assert _BACKWARD is not None
        return _BACKWARD(gradient, *tile, 0.0, causal, attn_mask=bias, scale=scale)
    weights = (_scores(query, key, bias, causal, scale) - lse[..., None]).exp_()
    gradient, wide = gradient.to(weights), value.to(weights)
    change = gradient @ wide.mT - (gradient * context).sum(-1, keepdim=True)
    change = change.mul_(weights).mul_(scale)
    found = change @ key.to(weights), change.mT @ query.to(weights), weights.mT @ gradient
    return found[0].to(query), found[1].to(key), found[2].to(value)


def _scores(query: Tensor, key: Tensor, bias: Tensor | None, causal: bool, scale: float) -> Tensor:
    precise = torch.promote_types(query.dtype, torch.float32)
    scores = (query.to(precise) * scale) @ key.to(precise).mT
    if bias is not None:
        scores = scores + bias
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores


def _finite(lse: Tensor) -> Tensor:
    """Zero where nothing is read, so that exp(-inf - lse) is 0 and not nan."""
    return lse.masked_fill(lse == -math.inf, 0.0)
