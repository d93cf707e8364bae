"""Sliding-window attention: each query reads itself and the `window - 1` positions before it.

    keep(q, k) = 0 <= q - k < window          where causal is False: -window < q - k < window

`window` counts the query's own position. flash-attn's `window_size=(left, right)` does not: there, write
`left = window - 1`, and `right = 0` or `right = window - 1`. The paper's w counts both sides of an encoder and not the
query itself: `window = w // 2 + 1` and `causal=False`. After n layers a token has heard of `n * (window - 1)` tokens
before it, so a short window is not a short memory.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal as all_before
from attnkit.mechanisms import full
from attnkit.rule import Rule


def sliding_window(*, window: int, causal: bool = True) -> Rule:
    """The rule.

    Args:
        window: how many positions a query reads, its own included, at least 1; as many on each side if not causal.
        causal: whether it reads nothing after itself.
    """
    return Rule(mask=masks.causal & masks.window(window) if causal else masks.band(window))


def _keep(q: int, k: int, *, window: int, causal: bool = True) -> bool:
    return 0 <= q - k < window or (not causal and 0 < k - q < window)


MECHANISM = Mechanism(
    name="sliding_window",
    family="where",
    summary="Each query reads itself and the window - 1 positions before it.",
    formula=r"\mathrm{keep}(q, k) = [0 \le q - k < \mathrm{window}]",
    paper=Paper(
        "Longformer: The Long-Document Transformer", 2020, "https://arxiv.org/abs/2004.05150", "section 3.1"
    ),
    rule=sliding_window,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(all_before.MECHANISM, window=64, causal=True),
        reduces_to(full.MECHANISM, window=64, causal=False),
    ),
    examples=({"window": 3}, {"window": 1}, {"window": 2, "causal": False}),
)
