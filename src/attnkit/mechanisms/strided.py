"""Strided attention (Sparse Transformer): the last `stride` positions, and every `stride`-th one before them.

    keep(q, k) = k <= q  and  (q - k < stride  or  (q - k) mod stride = 0)

With `stride` near the square root of the length a query reads about twice as many keys as that, and reaches every token
in two layers. For an image whose rows are laid one after another, `stride` is the width: the query reads the last row
and its own column. The paper's first set has one position more, q - stride, which is in its second set anyway.

The paper keeps the two sets apart, in two heads or in alternate layers, or reads both at once, which it calls a merged
head: that is what is here. The code that was published with the paper has two modes: "local" (`sliding_window`, of
`stride` positions and not one more) and "strided", which is the second set alone: `causal & masks.strided(stride)`.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule


def strided(*, stride: int) -> Rule:
    """The rule.

    Args:
        stride: how many of the last positions a query reads, and how far apart those before them are, at least 1.
    """
    return Rule(mask=masks.causal & (masks.strided(stride) | masks.window(stride)))


def _keep(q: int, k: int, *, stride: int) -> bool:
    return k <= q and (q - k < stride or (q - k) % stride == 0)


MECHANISM = Mechanism(
    name="strided",
    family="where",
    summary="Each query reads the last stride positions, and every stride-th one before them.",
    formula=r"\mathrm{keep}(q, k) = [k \le q] \, [q - k < s \;\lor\; s \mid q - k],\; s = \mathrm{stride}",
    paper=Paper(
        "Generating Long Sequences with Sparse Transformers",
        2019,
        "https://arxiv.org/abs/1904.10509",
        "section 4.3 (strided), as one merged head",
    ),
    rule=strided,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(causal.MECHANISM, stride=1),
        reduces_to(causal.MECHANISM, stride=64),
    ),
    examples=({"stride": 3}, {"stride": 2}),
)
