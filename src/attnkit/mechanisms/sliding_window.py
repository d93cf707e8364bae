"""Sliding-window attention: each query reads itself and the `window - 1` positions before it.

    keep(q, k) = 0 <= q - k < window

`window` counts the query's own position. flash-attn's `window_size=(left, 0)` does not: there, write
`left = window - 1`.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule


def sliding_window(*, window: int) -> Rule:
    """The rule.

    Args:
        window: how many positions a query reads, its own included, at least 1.
    """
    return Rule(mask=masks.causal & masks.window(window))


MECHANISM = Mechanism(
    name="sliding_window",
    family="where",
    summary="Each query reads itself and the window - 1 positions before it.",
    formula=r"\mathrm{keep}(q, k) = [0 \le q - k < \mathrm{window}]",
    paper=Paper(
        "Longformer: The Long-Document Transformer", 2020, "https://arxiv.org/abs/2004.05150", "section 3.1"
    ),
    rule=sliding_window,
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM, window=64)),
    examples=({"window": 3}, {"window": 1}),
)
