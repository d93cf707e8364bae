"""Prefix attention: the first `size` tokens read each other freely, and those after them read only what is before.

    keep(q, k) = k <= q  or  k < size

The prefix is a question or a picture that is given whole; what follows is written token by token. The whole prefix
must be there in the first call: one that comes in pieces through a cache is read as if it were causal. A prefix of 1 is
plain causal attention, for the first token is before all.
"""

from collections.abc import Sequence

from torch import Tensor

from attnkit import masks
from attnkit.laws import reads_just, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal, full
from attnkit.rule import Rule


def prefix(*, size: int | Tensor | Sequence[int]) -> Rule:
    """The rule.

    Args:
        size: tokens of the prefix, at least 1; or whole numbers, one a sample, 0 where a sample has none.
    """
    return Rule(mask=masks.prefix(size))


def _keep(q: int, k: int, *, size: int) -> bool:
    return k <= q or k < size


MECHANISM = Mechanism(
    name="prefix",
    family="where",
    summary="The first tokens read each other freely, those after them only what is before.",
    formula=r"\mathrm{keep}(q, k) = [k \le q \;\lor\; k < \mathrm{size}]",
    paper=Paper(
        "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        2019,
        "https://arxiv.org/abs/1910.10683",
        "section 3.2.1",
    ),
    rule=prefix,
    laws=(
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(causal.MECHANISM, size=1),
        reduces_to(full.MECHANISM, size=64),
    ),
    examples=({"size": 3}, {"size": 5}),
)
