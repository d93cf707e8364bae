"""Grouped-query attention: several heads of the query share one key and value, so that a cache holds fewer.

    context_h = softmax(Q_h K_g^T / sqrt(head_dim)) V_g,    g = h // (num_heads // num_kv_heads)

Neighbours share: with 6 heads and 3 groups, heads 0 and 1 read key 0. Code that repeats keys by `Tensor.repeat` instead
of `repeat_interleave` shares heads 0 and 3, and no error tells. As many groups as heads are `multi_head`, one group is
`multi_query`.
"""

from torch import Tensor

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, shared
from attnkit.mechanisms import multi_head
from attnkit.rule import Rule


def grouped_query(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask)


def one_for_each_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The key and value that each head of the query reads, written out."""
    return {name: shared(tensors[name], tensors["query"].shape[-3]) for name in ("key", "value")}


MECHANISM = Mechanism(
    name="grouped_query",
    family="heads",
    summary="Groups of heads share one key and value, so that a cache holds fewer.",
    formula=r"C_h = \mathrm{softmax}(Q_h K_{g(h)}^T / \sqrt{d}) \, V_{g(h)}",
    paper=Paper(
        "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
        2023,
        "https://arxiv.org/abs/2305.13245",
        "section 2.2",
    ),
    rule=grouped_query,
    laws=(no_future_leak, rows_sum_to_one, reduces_to(multi_head.MECHANISM, given=one_for_each_head)),
)
