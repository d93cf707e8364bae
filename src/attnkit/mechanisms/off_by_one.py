"""Off-by-one softmax: one more in the denominator, so that a head may read almost nothing.

    weights_k = exp(score_k) / (1 + sum_j exp(score_j))

It is a `sink` whose score stays 0. `nn.MultiheadAttention(add_zero_attn=True)` computes the same, by a key and a value
of zeros. The post calls it softmax1 and gives no paper.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, rows_sum_to_at_most_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def off_by_one(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.SoftmaxOne())


MECHANISM = Mechanism(
    name="off_by_one",
    family="normalise",
    summary="One more in softmax's denominator lets a head read almost nothing.",
    formula=r"w_k = \frac{e^{s_k}}{1 + \sum_j e^{s_j}}",
    paper=Paper(
        "Attention Is Off By One", 2023, "https://www.evanmiller.org/attention-is-off-by-one.html", "softmax1"
    ),
    rule=off_by_one,
    laws=(no_future_leak, rows_sum_to_at_most_one),
)
