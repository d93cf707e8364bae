"""Sparsemax and 1.5-entmax: between softmax, where every key weighs something, and the best key alone.

    sparsemax:   weight_k = max(score_k - threshold, 0)
    entmax15:    weight_k = max(score_k / 2 - threshold, 0) ** 2

with the one threshold that makes the row sum to one. It is exact: sorted scores tell how many lie above it, and then it
follows in closed form, through which gradients flow; those of keys below it are zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.normalizers.normalizer import Normalizer, hide
from attnkit.shapes import Keep, Scores, Weights


@dataclass(frozen=True)
class Sparsemax(Normalizer):
    """The point nearest to the scores among all rows of weights that sum to one.

    Example:
        >>> Sparsemax()(torch.tensor([[0.5, 0.0, -1.0]]), None).tolist()
        [[0.75, 0.25, 0.0]]

    Source: Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068, algorithm 1.
    """

    @property
    def rows_sum_to_one(self) -> bool:
        """True."""
        return True

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        return _excess(scores, keep, _sparsemax_threshold)


@dataclass(frozen=True)
class Entmax15(Normalizer):
    """Sparse like sparsemax, smooth like softmax: alpha-entmax with alpha = 1.5, halfway between them.

    Example:
        >>> Entmax15()(torch.tensor([[0.0, 0.0, -4.0]]), None)
        tensor([[0.5000, 0.5000, 0.0000]])

    Source: Peters et al. 2019, https://arxiv.org/abs/1905.05702, algorithm 2.
    """

    @property
    def rows_sum_to_one(self) -> bool:
        """True."""
        return True

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        return _excess(scores / 2, keep, _entmax_threshold).square()


Threshold = Callable[[Tensor, Tensor, Tensor], Tensor]


def _sparsemax_threshold(count: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Where sum(x - threshold) = 1, for `count` numbers x of this mean."""
    return mean - 1 / count


def _entmax_threshold(count: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Where sum((x - threshold) ** 2) = 1; `spread` is the sum of (x - mean) ** 2."""
    return mean - ((1 - spread) / count).clamp(min=0).sqrt()


def _excess(x: Tensor, keep: Tensor | None, threshold: Threshold) -> Tensor:
    """How far each number lies above its row's threshold; 0 for those below, and for the hidden."""
    if not x.shape[-1]:
        return x
    open_x = hide(x, keep).to(torch.promote_types(x.dtype, torch.float32))
    near = open_x - open_x.detach().amax(-1, keepdim=True)
    above = _above(near, threshold)
    if keep is not None:
        above = above & keep  # takes out the nan of a row with nothing to read, and no other
    count = above.sum(-1, keepdim=True).clamp(min=1).to(near.dtype)
    mean = near.masked_fill(~above, 0.0).sum(-1, keepdim=True) / count
    spread = (near - mean).masked_fill(~above, 0.0).square().sum(-1, keepdim=True)
    return (near - threshold(count, mean, spread)).masked_fill(~above, 0.0).to(x.dtype)


@torch.no_grad()
def _above(near: Tensor, threshold: Threshold) -> Tensor:
    """Which numbers lie above their row's threshold: the largest ones, as long as they exceed their own."""
    ordered = near.sort(dim=-1, descending=True).values
    count = torch.arange(1, near.shape[-1] + 1, device=near.device, dtype=near.dtype)
    mean = ordered.cumsum(-1) / count
    spread = ordered.square().cumsum(-1) - count * mean.square()
    above = (ordered > threshold(count, mean, spread)).sum(-1, keepdim=True)
    lowest = ordered.gather(-1, above.clamp(min=1) - 1)
    return ~(near < lowest)  # so that nan comes through
