"""Multi-query attention: all heads share one key and one value, so that a cache is num_heads times smaller.

    context_h = softmax(Q_h K^T / sqrt(head_dim)) V

Heads differ in their query alone. A step of decoding waits for the reading of the cache, not for arithmetic, and this
reads the least. A few groups, `grouped_query`, lose less quality; one group of them is this.
"""

from torch import Tensor

from attnkit import masks
from attnkit.errors import ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Projected, shared
from attnkit.mechanisms import grouped_query, multi_head
from attnkit.rule import Rule
from attnkit.shapes import Key


def multi_query(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask)


def prepare(key: Key) -> dict[str, Tensor]:
    """Nothing is changed.

    Raises:
        ShapeError: key has more than one head.
    """
    if key.shape[-3] != 1:
        raise ShapeError(
            where="multi_query",
            what=f"all heads of the query read one key; got key {tuple(key.shape)}, of {key.shape[-3]} heads",
            fix='find("grouped_query") takes as many as divide the heads of the query',
        )
    return {}


def _three_groups(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: shared(tensors[name], 3) for name in ("key", "value")}


MECHANISM = Mechanism(
    name="multi_query",
    family="heads",
    summary="All heads of the query share one key and one value.",
    formula=r"C_h = \mathrm{softmax}(Q_h K^T / \sqrt{d}) \, V",
    paper=Paper(
        "Fast Transformer Decoding: One Write-Head is All You Need",
        2019,
        "https://arxiv.org/abs/1911.02150",
        "section 3",
    ),
    rule=multi_query,
    prepare=prepare,
    parts=(
        Projected("key", of="key", heads=1, width="head_dim"),
        Projected("value", of="key", heads=1, width="head_dim"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(multi_head.MECHANISM, given=grouped_query.one_for_each_head),
        reduces_to(grouped_query.MECHANISM, given=_three_groups),
    ),
)
