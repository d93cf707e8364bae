"""Full attention: each query reads every key, those after it too.

    keep(q, k) = True

It is what an encoder does with its own tokens, and what cross-attention does with a memory: the queries come from one
sequence and the keys from another, so "before" and "after" mean nothing between them. Padding is hidden by the call's
mask, `masks.lengths(...)`; a decoder that reads itself wants `causal`.
"""

from attnkit import masks
from attnkit.laws import reads_just, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def full() -> Rule:
    """The rule; it has no options."""
    return Rule(mask=masks.full)


MECHANISM = Mechanism(
    name="full",
    family="where",
    summary="Each query reads every key, those after it too.",
    formula=r"\mathrm{keep}(q, k) = 1",
    paper=Paper("Attention Is All You Need", 2017, "https://arxiv.org/abs/1706.03762", "equation 1"),
    rule=full,
    laws=(rows_sum_to_one, reads_just(lambda q, k: True)),
)
