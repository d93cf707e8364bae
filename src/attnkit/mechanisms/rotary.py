"""Rotary positions: pairs of numbers turn with the position, so that a score depends on the distance.

    score = turn(query, q) . turn(key, k) / sqrt(head_dim),    pair i turns by position * theta ** (-2 i / rotary_dim)

The trap: `layout` says which numbers make a pair, "halves" (transformers, GPT-NeoX) or "pairs" (the paper, GPT-J, Llama
as released). The wrong one still runs, and is silently wrong. `attnkit.Attention(positions=...)` gives the same turning
to any other mechanism.
"""

import math

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.positions import Linear, Rotary, Scaling
from attnkit.rule import Rule


def rotary(
    *,
    theta: float = 10000.0,
    layout: str = "halves",
    rotary_dim: int | None = None,
    scaling: Scaling | None = None,
    mask: Mask = masks.causal,
) -> Rule:
    """The rule.

    Args:
        theta: the slowest pair turns about this many times slower than the first; `rope_theta` elsewhere, above 1.
        layout: which numbers turn together: "halves", i and i + rotary_dim / 2; or "pairs", 2i and 2i + 1.
        rotary_dim: how many numbers turn, the first ones, an even number; all of head_dim when not given.
        scaling: reads texts longer than those of training, by `Linear`, `NTK`, `Yarn` or `Llama3` of
            `attnkit.positions`.
        mask: where each query looks.

    Raises:
        OptionError: an option has a value that means nothing.
        UnknownNameError: there is no such layout.
    """
    if not isinstance(theta, int | float) or isinstance(theta, bool) or not 1 < theta < math.inf:
        raise OptionError(
            where="rotary",
            what=f"theta is a finite number above 1; got {theta!r}",
            fix="theta=10000.0, as in the paper (`rope_theta` of a checkpoint)",
        )
    turn = Rotary(base=theta, layout=layout, rotary_dim=rotary_dim, scaling=scaling)
    return Rule(mask=mask, positions=turn)


MECHANISM = Mechanism(
    name="rotary",
    family="score",
    summary="Query and key turn with their positions, so that a score depends on their distance.",
    formula=r"s_{qk} = \frac{(R_q q) \cdot (R_k k)}{\sqrt{d}} = \frac{q \cdot (R_{k - q} k)}{\sqrt{d}}",
    paper=Paper(
        "RoFormer: Enhanced Transformer with Rotary Position Embedding",
        2021,
        "https://arxiv.org/abs/2104.09864",
        "equations 14, 15 and 16",
    ),
    rule=rotary,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        # positions pressed together until they are one
        reduces_to(causal.MECHANISM, scaling=Linear(1e15)),
    ),
    examples=(
        {"theta": 100.0},
        {"theta": 10000.0, "layout": "pairs", "rotary_dim": 2},
        {"theta": 100.0, "scaling": Linear(4.0)},
    ),
    own_positions=True,
)
