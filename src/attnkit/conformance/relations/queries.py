"""A query of cross-attention is alone: its output is the same whatever other queries stand beside it.

    output(x, memory)[t] = output(x with a token more, memory)[t]

A target that takes the tokens for the memory by a slip does so where both are of one length, so that sizes that differ
never show it.
"""

from collections.abc import Iterator

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import MEMORY

LENGTH = 5


def run_equal_lengths(case: Case) -> Iterator[Finding]:
    """As many queries as the memory has tokens, against one more, and against two more."""
    case.need(case.declared.cross, "it reads no memory")
    x, memory = case.tokens(length=LENGTH + 2), case.memory(length=LENGTH)
    try:
        equal, more, most = (case.subject(x[:, : LENGTH + n], memory=memory)[:, :LENGTH] for n in range(3))
    except Exception as trouble:  # whatever it raises
        case.need(False, f"it refuses {LENGTH} to {LENGTH + 2} queries of a memory of {LENGTH}: {trouble}")
        return
    case.need(case.off(more, most) <= ROUNDING, "a query's output depends on how many queries there are")
    off = case.off(equal, more)
    if off <= ROUNDING:
        return
    moved = case.off(case.subject(x[:, :LENGTH].flip(1), memory=memory), equal)
    other = case.tokens(length=LENGTH, seed=71)
    one_token = x[:, :LENGTH].clone()
    one_token[:, 0] = other[:, 0]
    beside = case.off(case.subject(one_token, memory=memory)[:, 1:], equal[:, 1:])
    words = (
        f"with {LENGTH} queries and a memory of {LENGTH} tokens, outputs differ by {off:.2g} of their size "
        "from those with a query more"
    )
    if moved <= ROUNDING:
        yield Finding(
            "equal_lengths", "query-key-swapped", f"{words}, and do not depend on the queries", off, ROUNDING
        )
    elif beside > ROUNDING:
        sentence = f"{words}, and read other queries as if they were the memory"
        yield Finding("equal_lengths", "value-from-key", sentence, off, ROUNDING)
    else:
        yield Finding("equal_lengths", "shape-assumption", words, off, ROUNDING)


CHECKS = (
    Check(
        "equal_lengths",
        "basic",
        run_equal_lengths,
        "a query's output is the same with as many queries as there are tokens in the memory, and with more",
        MEMORY,
    ),
)
