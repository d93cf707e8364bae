"""Packed documents: several texts stand in one row of tokens, and none of them reads another.

    keep(q, k) = ids[q] = ids[k]  and  k <= q          where causal is False: without k <= q

`ids` says for each position which text it is of. Where texts change from batch to batch, give the call
`mask=masks.documents(ids)` and use `causal` or `full`. Positions go on counting across texts: rotary embeddings and
ALiBi know distances and do not mind, a learned table of positions does, and must be read at positions that start anew.
flash-attn's `cu_seqlens` are edges, not ids: `torch.arange(n).repeat_interleave(cu_seqlens.diff())`.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import block_local, full
from attnkit.mechanisms import causal as all_before
from attnkit.rule import Rule


def documents(*, ids: Tensor | Sequence[Any], causal: bool = True) -> Rule:
    """The rule.

    Args:
        ids: the text that each position is of, whole numbers `*batch len`; one that is given once serves all samples.
        causal: whether a query reads nothing after itself.
    """
    own = masks.documents(ids)
    return Rule(mask=masks.causal & own if causal else own)


def _keep(q: int, k: int, *, ids: Sequence[int], causal: bool = True) -> bool:
    return ids[q] == ids[k] and (not causal or k <= q)


_ONE, _THREES = [5] * 7, [0, 0, 0, 1, 1, 1, 2]

MECHANISM = Mechanism(
    name="documents",
    family="where",
    summary="Several texts stand in one row of tokens, and none of them reads another.",
    formula=r"\mathrm{keep}(q, k) = [\mathrm{id}_q = \mathrm{id}_k] \, [k \le q]",
    paper=Paper(
        "Efficient Sequence Packing without Cross-contamination",
        2021,
        "https://arxiv.org/abs/2107.02027",
        "section 3.2 (adjusted attention masks)",
    ),
    rule=documents,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(all_before.MECHANISM, ids=_ONE, causal=True),
        reduces_to(full.MECHANISM, ids=_ONE, causal=False),
        reduces_to(block_local.MECHANISM, ids=_THREES, causal=True, theirs={"size": 3}),
    ),
    examples=(
        {"ids": [0, 0, 0, 1, 1, 2, 2]},
        {"ids": [4, 4, 0, 0, 4, 4, 0]},
        {"ids": [0, 0, 0, 1, 1, 1, 1], "causal": False},
    ),
)
