"""Normalizers: how a row of scores becomes weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from attnkit.shapes import Keep, Scores, Weights


def hide(scores: Scores, keep: Keep | None) -> Scores:
    """The scores with minus infinity, whose exp is 0, for each key that `keep` hides."""
    return scores if keep is None else scores.masked_fill(~keep, -torch.inf)


class Normalizer(ABC):
    """Turns scores into weights; a key that `keep` hides gets the weight zero."""

    @abstractmethod
    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""


@dataclass(frozen=True)
class Softmax(Normalizer):
    """exp(score), divided by its sum over the keys that may be read. Rows sum to one, or to zero.

    Example:
        >>> Softmax()(torch.zeros(1, 2), torch.tensor([[True, False]])).tolist()
        [[1.0, 0.0]]
    """

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        weights = hide(scores, keep).softmax(dim=-1)
        # The second fill turns the 0/0 of an empty row into zeros, and stops its gradient.
        return weights if keep is None else weights.masked_fill(~keep, 0.0)
