"""ALiBi: a score loses by distance, each head at its own pace, and no other position is needed.

    score = query . key / sqrt(head_dim) - slope_h * |q - k|,    slope_h = 2 ** (-8 * (h + 1) / num_heads)

The slopes are fixed, not learned. For a number of heads that is no power of two, they are those of the paper's code.
BLOOM adds slope * k instead; softmax gives the same weights. The trap: a model has no other positions beside ALiBi.
With learned ones, or with rotary ones, it does not read texts that are longer than those of its training.
"""

from attnkit import masks, scores
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def alibi(*, num_heads: int, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        num_heads: heads of the query; any number.
        mask: where each query looks. Keys after the query, if it keeps them, lose as much as those before.
    """
    return Rule(mask=mask, scores=(scores.Alibi(num_heads),))


MECHANISM = Mechanism(
    name="alibi",
    family="score",
    summary="Each head takes its own slope times the distance away from a score.",
    formula=r"s_{qk} = \frac{q \cdot k}{\sqrt{d}} - 2^{-8 (h + 1) / H} \, |q - k|",
    paper=Paper(
        "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
        2021,
        "https://arxiv.org/abs/2108.12409",
        "section 3",
    ),
    rule=alibi,
    laws=(no_future_leak, rows_sum_to_one),
)
