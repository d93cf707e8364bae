"""Soft-capping: no score leaves the range from -cap to cap.

    changed = cap * tanh(score / cap)

It comes before the mask, as everything in `scores` does: capped after it, a hidden key would get the score -cap.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.shapes import Scores


@dataclass(frozen=True)
class SoftCap:
    """Small scores stay as they are, large ones approach `cap`.

    Attributes:
        cap: the limit, above 0; Gemma 2 uses 50 on scaled scores.

    Raises:
        OptionError: `cap` is no finite number above 0.

    Example:
        >>> SoftCap(2.0)(torch.tensor([[0.0, 1e9]]), *torch.zeros(3, 1, 1).long()).tolist()
        [[0.0, 2.0]]

    Source: Gemma 2, 2024, https://arxiv.org/abs/2408.00118, section 2; after Bello et al. 2016,
    https://arxiv.org/abs/1611.09940
    """

    cap: int | float

    def __post_init__(self) -> None:
        if not isinstance(self.cap, int | float) or isinstance(self.cap, bool) or not 0 < self.cap < math.inf:
            raise OptionError(
                where="SoftCap",
                what=f"cap is the size that no score exceeds, a finite number above 0; got {self.cap!r}",
                fix="SoftCap(50.0), as in Gemma 2; without a cap leave the step out",
            )

    def __call__(self, score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
        """The scores, each drawn into the range; head and positions do not matter."""
        return self.cap * torch.tanh(score / self.cap)
