"""Dilated attention: a sliding window with gaps, which reads as many keys and reaches `step` times as far.

    keep(q, k) = 0 <= q - k < step * count  and  (q - k) mod step = 0          where causal is False: |q - k|

A query never reads its neighbours: the tokens fall into `step` groups, and each group has a sliding window of its own.
So a model gives other steps to other heads or layers, 1 among them. The paper's d is `step`; `count` is its window,
which counts the query's own position here (see `sliding_window`).
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal as all_before
from attnkit.mechanisms import sliding_window
from attnkit.rule import Rule


def dilated(*, step: int, count: int, causal: bool = True) -> Rule:
    """The rule.

    Args:
        step: how far apart the keys are that a query reads, at least 1.
        count: how many keys a query reads, its own included, at least 1; as many on each side if not causal.
        causal: whether it reads nothing after itself.
    """
    backwards = masks.dilated(step, count)
    return Rule(mask=masks.causal & backwards if causal else backwards & masks.band(step * count))


def _keep(q: int, k: int, *, step: int, count: int, causal: bool = True) -> bool:
    away = q - k if causal else abs(q - k)
    return away in range(0, step * count, step)


MECHANISM = Mechanism(
    name="dilated",
    family="where",
    summary="A sliding window with gaps reads every step-th key and so reaches further.",
    formula=r"\mathrm{keep}(q, k) = [0 \le q - k < sc] \, [s \mid q - k],\; s = \mathrm{step},\, c = \mathrm{count}",
    paper=Paper(
        "Longformer: The Long-Document Transformer", 2020, "https://arxiv.org/abs/2004.05150", "section 3.1"
    ),
    rule=dilated,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(sliding_window.MECHANISM, step=1, count=3, causal=True, theirs={"window": 3}),
        reduces_to(
            sliding_window.MECHANISM, step=1, count=3, causal=False, theirs={"window": 3, "causal": False}
        ),
        reduces_to(sliding_window.MECHANISM, step=64, count=2, theirs={"window": 1}),
        reduces_to(all_before.MECHANISM, step=1, count=64, causal=True),
    ),
    examples=(
        {"step": 2, "count": 3},
        {"step": 3, "count": 2},
        {"step": 2, "count": 2, "causal": False},
    ),
)
