"""Tokens that are all equal give what one of them gives: what outputs alone tell of weights and values.

    output(m, m, m) = output(m)          weights sum to one, and every value is the same

A memory of equal tokens says so for any query, so whatever moves with the query came another way.
"""

import contextlib
from collections.abc import Iterator

from attnkit.conformance.case import ROUNDING, Case, Check, Skip
from attnkit.conformance.claims import from_a_library, normalised, unless_meant
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import SHARES
from attnkit.conformance.relations.positions import run_order

LENGTH = 5


def run_constant(case: Case) -> Iterator[Finding]:
    """Five equal tokens against one."""
    case.need(normalised(case), "its weights need not sum to one")
    case.need(case.declared.positions != "absolute", "tokens differ by their place")
    case.need("heads_fault" not in case.facts, "its heads are mixed up, which comes first")
    x, memory = case.tokens(2, 3, seed=63), case.memory(2, 3, seed=63)
    same = case.off(case.subject(x.clone(), memory=memory), case.subject(x.clone(), memory=memory)) == 0
    case.need(same, "two equal calls differ, which comes first")
    if "ordered" not in case.facts:
        with contextlib.suppress(Skip):
            list(run_order(case))
    case.need(not case.facts.get("ordered"), "outputs change with the order of tokens, which may be meant")
    if case.declared.cross:
        yield from _of_memory(case)
        return
    case.need(not case.facts.get("normalised"), "its weights were read, and sum to one")
    yield from _of_tokens(case)


def _of_tokens(case: Case) -> Iterator[Finding]:
    token = case.tokens(2, 1, seed=60)
    one, many = (case.subject(token.repeat(1, length, 1)) for length in (1, LENGTH))
    case.need(one.shape[:2] == (2, 1), "it gives no (batch, len, d_out) for one token")
    off = case.off(many, one.expand_as(many))
    if off > ROUNDING:
        fault = case.facts.get("rows_fault") or _unnamed(case)
        words = f"{LENGTH} equal tokens give another output than one of them, by {off:.2g} of its size"
        words += unless_meant(case, fault)
        yield Finding("constant", fault, words, off, ROUNDING)


def _of_memory(case: Case) -> Iterator[Finding]:
    """As many equal tokens of a memory as there are queries, for what is exchanged where sizes are equal."""
    token = case.memory(2, 1, seed=60)
    assert token is not None
    x = case.tokens(2, LENGTH, seed=60)
    few, many = (case.subject(x, memory=token.repeat(1, length, 1)) for length in (LENGTH - 2, LENGTH))
    one = case.subject(x, memory=token)
    off, off_few = case.off(many, one), case.off(few, one)
    if max(off, off_few) <= ROUNDING:
        return
    if off_few <= ROUNDING:
        words = (
            f"with as many equal tokens in the memory as queries, outputs differ by {off:.2g} of their size"
        )
        yield Finding(
            "constant", "value-from-key", f"{words}: the values come of the queries' tokens", off, ROUNDING
        )
        return
    if case.facts.get("normalised"):
        return  # residuals and the like
    fault = case.facts.get("rows_fault") or "softmax-missing"
    words = f"a memory of equal tokens gives another output than one of them, by {off_few:.2g} of its size"
    words += unless_meant(case, fault)
    yield Finding("constant", fault, words, off_few, ROUNDING)


def _unnamed(case: Case) -> str:
    """The name where no probe tells more: over one key a softmax is 1, so the output is affine in a lone token."""
    if case.declared.positions or from_a_library(case):
        return "softmax-missing"
    one, two = case.tokens(1, 1, seed=61), case.tokens(1, 1, seed=62)
    middle = case.subject((one + two) / 2)
    straight = (case.subject(one) + case.subject(two)) / 2
    return "softmax-wrong-axis" if case.off(middle, straight) <= ROUNDING else "softmax-missing"


CHECKS = (Check("constant", "basic", run_constant, "equal tokens give what one of them gives", SHARES),)
