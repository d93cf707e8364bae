"""Stick-breaking attention: from the nearest key back, each breaks off its share of what is left of a stick.

    weights_k = sigmoid(score_k) * prod_{k < j < q} (1 - sigmoid(score_j))

A query does not read itself: with the paper's mask, which is the default, the first token reads nothing, and its
context is zero. `mask=masks.causal` lets it (`attend_current=True` in public code). Order alone tells near from far, so
it needs no positions. Public layers add what is left of the stick, times a learned vector a head, and normalise each
head; the paper's equations do not, and neither does this.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_at_most_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import sigmoid
from attnkit.rule import Rule

BEFORE = masks.causal & ~masks.window(1)


def stick_breaking(*, mask: Mask = BEFORE) -> Rule:
    """The rule.

    Args:
        mask: where each query looks; everything before it, without itself, when not given.
    """
    return Rule(mask=mask, normalizer=normalizers.StickBreaking())


def _kept(q_pos: int, kv_pos: int, *, mask: Mask = BEFORE) -> bool:
    return bool(mask.dense(1, kv_pos + 1, q_start=q_pos)[0, kv_pos])


MECHANISM = Mechanism(
    name="stick_breaking",
    family="normalise",
    summary="Each key, the nearest first, takes a share of the weight that is left.",
    formula=r"w_k = \sigma(s_k) \prod_{k < j < q} (1 - \sigma(s_j))",
    paper=Paper(
        "Scaling Stick-breaking Attention: An Efficient Implementation and In-depth Study",
        2024,
        "https://arxiv.org/abs/2410.17980",
        "section 2",
    ),
    rule=stick_breaking,
    laws=(
        no_future_leak,
        rows_sum_to_at_most_one,
        reads_just(_kept),
        reduces_to(sigmoid.MECHANISM, theirs={"mask": sigmoid.ITSELF}, mask=sigmoid.ITSELF),
    ),
    examples=({}, {"mask": masks.causal}),
)
