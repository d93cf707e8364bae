"""Top-k attention: a softmax over the k largest scores of each row.

    weights = softmax(scores, kept where score_k >= the k-th largest)

Keys that tie at the k-th place are all read, so that their order cannot matter; low precision makes ties common.
"""

from dataclasses import dataclass

from attnkit.errors import OptionError
from attnkit.normalizers.normalizer import Normalizer, hide
from attnkit.normalizers.softmax import Softmax
from attnkit.shapes import Keep, Scores, Weights


@dataclass(frozen=True)
class TopK(Normalizer):
    """Softmax over the `k` largest scores that may be read. The others get the weight zero and no gradient.

    Attributes:
        k: how many keys a query reads, at least 1; where fewer may be read, all of them.

    Raises:
        OptionError: `k` is no whole number from 1 upwards.

    Example:
        >>> import torch
        >>> TopK(2)(torch.tensor([[5.0, 1.0, 5.0, 4.0]]), None).tolist()
        [[0.5, 0.0, 0.5, 0.0]]

    Source: Gupta et al. 2021, https://arxiv.org/abs/2106.06899
    """

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise OptionError(
                where="TopK",
                what=f"k is how many keys a query reads: 1, 2, 3, ...; got {self.k!r}",
                fix="TopK(1) reads the best key alone; Softmax() reads all",
            )

    @property
    def rows_sum_to_one(self) -> bool:
        """True."""
        return True

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        open_scores = hide(scores.detach(), keep)
        last = open_scores.topk(min(self.k, scores.shape[-1]), dim=-1).values[..., -1:]
        chosen = ~(open_scores < last)  # so that nan comes through
        return Softmax()(scores, chosen if keep is None else chosen & keep)
