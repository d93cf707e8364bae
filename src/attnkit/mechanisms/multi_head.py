"""Multi-head attention: several heads, each with its own query, key and value, read side by side.

    context_h = softmax(Q_h K_h^T / sqrt(head_dim)) V_h,    output = [context_1, ..., context_H] W_output

Heads do not see each other before the last projection. Where key and value have fewer heads than the query, it is
`grouped_query` or `multi_query`. `nn.MultiheadAttention` returns weights that are the mean of all heads; here each head
has its own.
"""

from torch import Tensor

from attnkit import masks
from attnkit.errors import ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Projected
from attnkit.mechanisms import causal
from attnkit.rule import Rule
from attnkit.shapes import Key, Query


def multi_head(*, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask)


def prepare(query: Query, key: Key) -> dict[str, Tensor]:
    """Nothing is changed.

    Raises:
        ShapeError: key has not as many heads as query.
    """
    if key.shape[-3] != query.shape[-3]:
        raise ShapeError(
            where="multi_head",
            what=f"each head of the query has its own key; got {query.shape[-3]} and {key.shape[-3]} heads",
            fix='find("grouped_query") shares key and value between heads',
        )
    return {}


MECHANISM = Mechanism(
    name="multi_head",
    family="heads",
    summary="Several heads, each with its own query, key and value, read side by side.",
    formula=r"C_h = \mathrm{softmax}(Q_h K_h^T / \sqrt{d}) \, V_h",
    paper=Paper("Attention Is All You Need", 2017, "https://arxiv.org/abs/1706.03762", "section 3.2.2"),
    rule=multi_head,
    prepare=prepare,
    parts=(
        Projected("key", of="key", heads="num_heads", width="head_dim"),
        Projected("value", of="key", heads="num_heads", width="head_dim"),
    ),
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM)),
)
