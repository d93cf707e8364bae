"""Cross-attention: outputs read all of a memory, however long it is, and its mask hides what it should."""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import MEMORY, PADDING
from attnkit.conformance.relations.padding import let_through
from attnkit.conformance.relations.reads import MILD, QUERIES, Source, apart, attempted, by_gradients, moved

LENGTHS = (1, 3, 9)


def reads_memory(case: Case) -> Source:
    """What keys are made of in a target that reads a memory.

    Raises:
        Skip: it reads none, or nothing was said of it and it is causal.
    """
    case.need(case.subject.takes_memory, "it takes no memory")
    said = case.declared.cross or (case.declared.level != "basic" and not case.declared.causal)
    case.need(said, "nothing was said of a memory")
    return Source(case, memory=True)


def run_memory(case: Case) -> Iterator[Finding]:
    """Each output moves with each token of its memory, and with no other token of its own text."""
    source = reads_memory(case)
    source.need_steady()
    keys = source.keys(3, 7)
    if attempted(source, keys) is None:
        case.need(case.declared.cross, "it refuses a memory of another length")
        yield from _same_length(case)
        return
    found = moved(source, keys).amax(0)
    unread = found <= ROUNDING
    if unread.any():
        mild = keys * MILD
        unread &= torch.maximum(moved(source, mild, draws=1), by_gradients(source, mild)).amax(0) <= ROUNDING
    case.facts["memory pattern"] = "reads all of a memory" if not unread.any() else "reads a part of a memory"
    if not case.declared.cross:
        return
    if unread.all():
        yield Finding("memory", "blind", "no output moves with any token of the memory", 0.0, ROUNDING)
    elif unread.all(0).any():
        s = int(unread.all(0).nonzero()[0])
        sentence = f"no output moves with token {s} of the memory"
        yield Finding("memory", "blind", sentence, found[:, s].max().item(), ROUNDING)
    if unread.any():
        return
    for length in LENGTHS:
        if attempted(source, source.keys(3, length)) is None:
            sentence = f"it raises for {QUERIES} queries and a memory of {length} tokens, though 7 pass"
            yield Finding("memory", "shape-assumption", sentence)
            return


def _same_length(case: Case) -> Iterator[Finding]:
    """A target that takes a memory only if it is as long as its own text: of whose tokens are its values?"""
    source = Source(case, memory=True)
    keys = source.keys(3, QUERIES)
    base = attempted(source, keys)
    case.need(base is not None, "it raises with a memory of 7 tokens, and with one as long as its own text")
    x, other = (case.tokens(3, QUERIES, seed=seed) for seed in (50, 51))
    assert base is not None  # for the type checker
    for s in range(QUERIES):
        changed = x.clone()
        changed[:, s] = other[:, s]
        far = apart(case.subject(x, memory=keys), case.subject(changed, memory=keys))
        far[:, s] = 0
        if far.max() > ROUNDING:
            sentence = (
                f"other outputs move by {far.max().item():.2g} of their size with token {s} of their own text, "
                "and a memory of another length is refused: values are made of the text, not of the memory"
            )
            yield Finding("memory", "value-from-key", sentence, far.max().item(), ROUNDING)
            return
    sentence = f"it raises for {QUERIES} queries and a memory of 7 tokens, and not for one of {QUERIES}"
    yield Finding("memory", "shape-assumption", sentence)


def run_memory_padding(case: Case) -> Iterator[Finding]:
    """Other tokens where a mask of the memory hides them."""
    source = reads_memory(case)
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    case.need(case.facts.get("mask fault") != "mask-stale", "a call's mask depends on the call before")
    case.need(attempted(source, source.keys(3, 7)) is not None, "it refuses a memory of another length")
    yield from let_through(source, "memory_padding")
    yield from _order(case, source)


def _order(case: Case, source: Source) -> Iterator[Finding]:
    """Where the order of a memory does not matter, it does not with a mask that moves along."""
    keys, keep = source.keys(3, 7, seed=80), torch.ones(3, 7, dtype=torch.bool)
    keep[0, 2], keep[1, 4:], keep[2, :2] = False, False, False
    order = torch.randperm(7, generator=case.generator(81))
    pairs: list[tuple[Tensor | None, Tensor | None]] = [(None, None), (keep, keep[:, order])]
    far = []
    for before, after in pairs:
        one, other = attempted(source, keys, before), attempted(source, keys[:, order], after)
        if one is None or other is None:
            return
        far.append(apart(one, other).max().item())
    case.facts["order of the memory matters"] = far[0] > ROUNDING
    if far[0] <= ROUNDING < far[1] and "mask fault" not in case.facts:
        sentence = f"a memory in another order, its mask too, moves outputs by {far[1]:.2g} of their size"
        yield Finding("memory_padding", "mask-wrong-row", sentence, far[1], ROUNDING)


CHECKS = (
    Check(
        "memory",
        "basic",
        run_memory,
        "each output reads each token of its memory, however long that is",
        MEMORY,
    ),
    Check(
        "memory_padding",
        "basic",
        run_memory_padding,
        "outputs do not depend on tokens of the memory that a mask hides",
        PADDING,
    ),
)
