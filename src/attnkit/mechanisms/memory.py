"""Segments with a memory (Transformer-XL): a query reads its own segment's past, and what was kept from before it.

    keep(q, k) = floor(q / segment) * segment - memory_tokens <= k <= q

The paper runs one segment after another and keeps the last hidden states of each layer; here all segments run at once
and a mask says what each would have seen. Contexts are the same. Gradients are not: the paper stops them at the memory,
here they flow into it. Within a segment later queries read more. Public code can also give each query the same number
of keys, `same_length`; that is `sliding_window`. The paper's relative positions are another mechanism.
"""

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import block_local, causal, sliding_window
from attnkit.rule import Rule


def memory(*, segment: int, memory_tokens: int) -> Rule:
    """The rule.

    Args:
        segment: positions of a segment, at least 1.
        memory_tokens: how many tokens before its segment a query reads, at least 0; as many as `segment` in the paper.
    """
    return Rule(mask=masks.causal & masks.segments(segment, before=memory_tokens))


def _keep(q: int, k: int, *, segment: int, memory_tokens: int) -> bool:
    return q - q % segment - memory_tokens <= k <= q


MECHANISM = Mechanism(
    name="memory",
    family="where",
    summary="A query reads its own segment's past, and some tokens before the segment.",
    formula=r"\mathrm{keep}(q, k) = [\lfloor q / n \rfloor n - m \le k \le q],"
    r"\; n = \mathrm{segment},\, m = \mathrm{memory}",
    paper=Paper(
        "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context",
        2019,
        "https://arxiv.org/abs/1901.02860",
        "section 3.2",
    ),
    rule=memory,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(causal.MECHANISM, memory_tokens=64),
        reduces_to(block_local.MECHANISM, segment=3, memory_tokens=0, theirs={"size": 3}),
        reduces_to(sliding_window.MECHANISM, segment=1, memory_tokens=2, theirs={"window": 3}),
    ),
    examples=({"segment": 3, "memory_tokens": 3}, {"segment": 2, "memory_tokens": 1}),
)
