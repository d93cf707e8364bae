"""Sigmoid attention: each key is weighed on its own, and rows sum to anything.

    weight_k = 1 / (1 + exp(-(score_k + bias)))

With n keys and scores near 0 a row sums to n / 2; the paper's bias of -log(n) brings that to about 1. It is not the
default: n is a length of the training, and would change with every call.
"""

import math
from dataclasses import dataclass

from attnkit.errors import OptionError
from attnkit.normalizers.normalizer import Normalizer
from attnkit.shapes import Keep, Scores, Weights


@dataclass(frozen=True)
class Sigmoid(Normalizer):
    """The sigmoid of each score and a bias.

    Attributes:
        bias: added to every score; 0 when not given.

    Raises:
        OptionError: `bias` is no finite number.

    Example:
        >>> import torch
        >>> Sigmoid()(torch.zeros(1, 2), torch.tensor([[True, False]])).tolist()
        [[0.5, 0.0]]

    Source: Ramapuram et al. 2024, https://arxiv.org/abs/2409.04431, the definition of SigmoidAttn.
    """

    bias: int | float | None = None

    def __post_init__(self) -> None:
        known = isinstance(self.bias, int | float) and not isinstance(self.bias, bool)
        if self.bias is not None and not (known and -math.inf < self.bias < math.inf):
            raise OptionError(
                where="Sigmoid",
                what=f"bias is one finite number that is added to every score; got {self.bias!r}",
                fix="Sigmoid(bias=-math.log(kv_len)); a bias that is learned is a score step, "
                "scores.Bias(bias[:, None, None])",
            )

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        weights = (scores if self.bias is None else scores + self.bias).sigmoid()
        return weights if keep is None else weights.masked_fill(~keep, 0.0)
