"""1.5-entmax attention: sparse as sparsemax is, smooth as softmax is, halfway between them.

    weights_k = max(score_k / 2 - threshold, 0) ** 2,   with the one threshold that makes the row sum to one

alpha-entmax is a family: alpha = 1 is softmax, alpha = 2 is sparsemax. Adaptively sparse Transformers learn an alpha
for each head; this is the fixed 1.5, whose threshold has a closed form.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def entmax15(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.Entmax15())


MECHANISM = Mechanism(
    name="entmax15",
    family="normalise",
    summary="Halfway between softmax and sparsemax: smooth, and zero for keys far behind.",
    formula=r"w_k = \max(s_k / 2 - \tau, 0)^2, \quad \sum_k w_k = 1",
    paper=Paper(
        "Sparse Sequence-to-Sequence Models", 2019, "https://arxiv.org/abs/1905.05702", "algorithm 2"
    ),
    rule=entmax15,
    laws=(no_future_leak, rows_sum_to_one),
)
