"""Unscaled dot products: query and key meet as they are, and nothing is divided by the root of their width.

    weights = softmax(query @ key.T)

Two random vectors of width d have a dot product of size sqrt(d), so wide heads begin with sharp weights. T5 leaves the
scale out as well, and starts with smaller projections instead. A checkpoint that was trained with a scale needs it.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule


def unscaled(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, scale=1.0)


MECHANISM = Mechanism(
    name="unscaled",
    family="score",
    summary="Scores are plain dot products, whatever the width of a head.",
    formula=r"w_{qk} = \mathrm{softmax}_k(q \cdot k)",
    paper=Paper(
        "Effective Approaches to Attention-based Neural Machine Translation",
        2015,
        "https://arxiv.org/abs/1508.04025",
        "section 3.1, the score named dot",
    ),
    rule=unscaled,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        # the scale of the other taken back
        reduces_to(
            causal.MECHANISM,
            given=lambda tensors: {"query": tensors["query"] * tensors["query"].shape[-1] ** 0.5},
        ),
    ),
)
