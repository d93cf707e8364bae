"""Causal attention: each query reads itself and everything before it.

    keep(q, k) = k <= q

The last query stands at the last key, also where there are fewer queries than keys. PyTorch's `is_causal=True` puts
the first query at the first key instead, which is wrong after a cache.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


def causal() -> Rule:
    """The rule; it has no options."""
    return Rule(mask=masks.causal)


MECHANISM = Mechanism(
    name="causal",
    family="where",
    summary="Each query reads itself and everything before it.",
    formula=r"\mathrm{keep}(q, k) = [k \le q]",
    paper=Paper("Attention Is All You Need", 2017, "https://arxiv.org/abs/1706.03762", "section 3.2.3"),
    rule=causal,
    laws=(no_future_leak, rows_sum_to_one, reads_just(lambda q, k: k <= q)),
)
