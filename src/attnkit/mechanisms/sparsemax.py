"""Sparsemax attention: weights that are exactly zero for the keys far behind the best.

    weights_k = max(score_k - threshold, 0),   with the one threshold that makes the row sum to one

It is the point nearest to the scores among all rows that sum to one. A key with weight zero gets no gradient either:
what a query does not read, it does not learn to read.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def sparsemax(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.Sparsemax())


MECHANISM = Mechanism(
    name="sparsemax",
    family="normalise",
    summary="Keys far behind the best weigh exactly nothing.",
    formula=r"w_k = \max(s_k - \tau, 0), \quad \sum_k w_k = 1",
    paper=Paper(
        "From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification",
        2016,
        "https://arxiv.org/abs/1602.02068",
        "equation 2, algorithm 1",
    ),
    rule=sparsemax,
    laws=(no_future_leak, rows_sum_to_one),
)
