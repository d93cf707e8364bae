"""Top-k attention: a softmax over the k keys that score highest, chosen anew by each query.

    keep(q, k) = score_qk >= the k-th largest score of q

All scores are computed, so it saves values read and gradients, not the product of queries and keys. Keys that tie at
the k-th place are all read, also where that is more than k; public code drops all but k of them by their order.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule


def top_k(*, k: int, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        k: how many keys a query reads, at least 1; where fewer may be read, all of them.
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.TopK(k))


MECHANISM = Mechanism(
    name="top_k",
    family="normalise",
    summary="Each query reads the k keys that score highest.",
    formula=r"w = \mathrm{softmax}(s_k \mid s_k \ge s_{(k)})",
    paper=Paper(
        "Memory-efficient Transformers via Top-k Attention",
        2021,
        "https://arxiv.org/abs/2106.06899",
        "top-k attention",
    ),
    rule=top_k,
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM, k=64)),
    examples=({"k": 2}, {"k": 1}),
)
