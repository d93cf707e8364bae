"""Stick-breaking: from the last key back, each breaks off its share of what is left of a stick of length 1.

    weight_k = sigmoid(score_k) * prod_{later j} (1 - sigmoid(score_j))

The order of the keys matters, as in no other normalizer: of two keys that score alike, the later one gets more. What
nobody breaks off is lost, so rows sum to at most one.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid, pad

from attnkit.normalizers.normalizer import Normalizer, hide
from attnkit.shapes import Keep, Scores, Weights


@dataclass(frozen=True)
class StickBreaking(Normalizer):
    """Shares of a stick, the last key that may be read first. A hidden key breaks off nothing.

    It says nothing of where the query stands; in the paper a query reads what is before it, itself not included.

    Example:
        >>> StickBreaking()(torch.zeros(1, 3), None).tolist()  # half of the stick, half of the rest, and so on
        [[0.125, 0.25, 0.5]]

    Source: Tan et al. 2024, https://arxiv.org/abs/2410.17980, section 2, the form in log space.
    """

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        logits = hide(scores, keep).to(torch.promote_types(scores.dtype, torch.float32))
        if not logits.shape[-1]:
            return scores
        # shifted before it is summed: the sum less the key itself would cancel where one score is large
        left = pad(logsigmoid(-logits)[..., 1:], (0, 1)).flip(-1).cumsum(-1).flip(-1)
        return (logsigmoid(logits) + left).exp().to(scores.dtype)
