"""Global and local attention (Longformer): a window for all, and a few tokens that read all and that all read.

    keep(q, k) = |q - k| < window  or  k < num_global  or  q < num_global          and k <= q where causal is True

It is an encoder's: by default tokens read what follows them. The global tokens are the first ones, such as [CLS] or a
question; any others are `masks.where`. With `causal=True` it is the pattern of StreamingLLM: a window and the first
tokens. Longformer's `attention_window=w` is w / 2 on each side: `window = w // 2 + 1`.

Longformer has a second set of three projections, for the queries, keys and values of global tokens. Here there is one
set: the two agree where the second set equals the first, which is how Longformer begins.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal as all_before
from attnkit.mechanisms import full, sliding_window
from attnkit.rule import Rule


def global_local(*, window: int, num_global: int = 1, causal: bool = False) -> Rule:
    """The rule.

    Args:
        window: how many positions a query reads on each side, its own included, at least 1.
        num_global: how many of the first tokens read all and are read by all; 0 for none.
        causal: whether a query reads nothing after itself.
    """
    mask = masks.band(window)
    if num_global != 0:
        mask = mask | masks.first(num_global) | masks.first_queries(num_global)
    return Rule(mask=masks.causal & mask if causal else mask)


def _keep(q: int, k: int, *, window: int, num_global: int = 1, causal: bool = False) -> bool:
    near = abs(q - k) < window
    return (near or min(q, k) < num_global) and (not causal or k <= q)


MECHANISM = Mechanism(
    name="global_local",
    family="where",
    summary="Each query reads a window; the first tokens read all and are read by all.",
    formula=r"\mathrm{keep}(q, k) = [|q - k| < \mathrm{window} \;\lor\; \min(q, k) < \mathrm{global}]",
    paper=Paper(
        "Longformer: The Long-Document Transformer", 2020, "https://arxiv.org/abs/2004.05150", "section 3.1"
    ),
    rule=global_local,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(full.MECHANISM, window=64, causal=False),
        reduces_to(full.MECHANISM, num_global=64, causal=False),
        reduces_to(all_before.MECHANISM, window=64, causal=True),
        reduces_to(sliding_window.MECHANISM, window=2, num_global=0, causal=True, theirs={"window": 2}),
        reduces_to(
            sliding_window.MECHANISM,
            window=2,
            num_global=0,
            causal=False,
            theirs={"window": 2, "causal": False},
        ),
    ),
    examples=(
        {"window": 2},
        {"window": 1, "num_global": 2},
        {"window": 2, "num_global": 1, "causal": True},
    ),
)
