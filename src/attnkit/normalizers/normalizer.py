"""What a normalizer is."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.shapes import Keep, Scores, Weights


def hide(
    scores: Float[Tensor, "*#heads q_len kv_len"], keep: Keep | None
) -> Float[Tensor, "*_ q_len kv_len"]:
    """The scores with minus infinity, whose exp is 0, for each key that `keep` hides."""
    return scores if keep is None else scores.masked_fill(~keep, -torch.inf)


class Normalizer(ABC):
    """Turns scores into weights; a key that `keep` hides gets the weight zero, and is as if it were not there."""

    @abstractmethod
    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""

    @property
    def rows_sum_to_one(self) -> bool:
        """Whether the weights of each row with something to read sum to one."""
        return False

    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that a gradient may have to reach."""
        return ()
