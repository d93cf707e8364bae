"""Normalizers: how a row of scores becomes weights.

    weights = normalizer(scores, keep)

A key that `keep` hides weighs exactly 0, and a row with nothing to read is all zeros, in every one of them. Whether the
other rows sum to one is what `rows_sum_to_one` says.
"""

from attnkit.normalizers.normalizer import Normalizer, hide
from attnkit.normalizers.sigmoid import Sigmoid
from attnkit.normalizers.softmax import Softmax, SoftmaxOne, softmax_sink
from attnkit.normalizers.sparse import Entmax15, Sparsemax
from attnkit.normalizers.stick_breaking import StickBreaking
from attnkit.normalizers.topk import TopK

__all__ = [
    "Entmax15",
    "Normalizer",
    "Sigmoid",
    "Softmax",
    "SoftmaxOne",
    "Sparsemax",
    "StickBreaking",
    "TopK",
    "hide",
    "softmax_sink",
]
