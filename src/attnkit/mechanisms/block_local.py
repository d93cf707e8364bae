"""Block-local attention: the tokens are cut into blocks, and each query reads its own block.

    keep(q, k) = k <= q  and  floor(q / size) = floor(k / size)          where causal is False: without k <= q

No token ever hears of another block, in any number of layers: a model mixes it with layers that cross the edges, or
moves the edges from layer to layer. The first token of a block reads itself alone. For blocks that also read the block
before them see `memory`. A last block may be shorter; public code pads it instead, which changes nothing.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal as all_before
from attnkit.mechanisms import full, sliding_window
from attnkit.rule import Rule


def block_local(*, size: int, causal: bool = True) -> Rule:
    """The rule.

    Args:
        size: positions of a block, at least 1.
        causal: whether a query reads nothing after itself.
    """
    block = masks.blocks(size)
    return Rule(mask=masks.causal & block if causal else block)


def _keep(q: int, k: int, *, size: int, causal: bool = True) -> bool:
    begin = q - q % size
    return begin <= k < (q + 1 if causal else begin + size)


MECHANISM = Mechanism(
    name="block_local",
    family="where",
    summary="The tokens are cut into blocks, and each query reads its own block.",
    formula=r"\mathrm{keep}(q, k) = [k \le q] \, [\lfloor q / n \rfloor = \lfloor k / n \rfloor],\; n = \mathrm{size}",
    paper=Paper(
        "Generating Wikipedia by Summarizing Long Sequences",
        2018,
        "https://arxiv.org/abs/1801.10198",
        "section 4.2.4 (local attention)",
    ),
    rule=block_local,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(all_before.MECHANISM, size=64, causal=True),
        reduces_to(full.MECHANISM, size=64, causal=False),
        reduces_to(sliding_window.MECHANISM, size=1, theirs={"window": 1}),
    ),
    examples=({"size": 3}, {"size": 2}, {"size": 3, "causal": False}),
)
