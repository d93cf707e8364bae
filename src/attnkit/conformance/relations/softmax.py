"""Weights of a query sum to one, and scores are query times key times one over the root of the head's size.

sum over keys of w = 1           read with values of 1
z = scale * query . key          read with single numbers, from small scores to large ones
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.claims import normalised, unless_meant
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import SHARES
from attnkit.conformance.probe import Probe, probe_of
from attnkit.conformance.readings import value_map
from attnkit.conformance.relations.heads import scrambled

QUERIES, KEYS = 5, 4  # for a memory; tokens of one's own are as many


def run_rows(case: Case) -> Iterator[Finding]:
    """Values of one give one."""
    case.need(normalised(case), "its weights need not sum to one")
    probe = probe_of(case)
    query, key = drawn_for(probe, QUERIES, KEYS if probe.memory else QUERIES)
    sums = row_sums(probe, query, key)
    off = (sums - 1).where(sums != 0, 0).abs().max().item()  # a row that reads nothing is another fault
    case.facts["normalised"] = off <= ROUNDING
    if off <= ROUNDING:
        return
    fault, words = _why(case, probe, query, key, sums)
    case.facts["rows_fault"] = fault
    words += unless_meant(case, fault)
    yield Finding(
        "rows", fault, words, off, ROUNDING, data={"least": sums.min().item(), "most": sums.max().item()}
    )


def row_sums(probe: Probe, query: Tensor, key: Tensor) -> Tensor:
    """What the weights of each query sum to, behind each number of the context."""
    return probe(query, key, torch.ones_like(probe.zeros("value", *key.shape[:2])))


def drawn_for(probe: Probe, q_len: int, kv_len: int) -> tuple[Tensor, Tensor]:
    """Queries and keys of three samples."""
    return probe.drawn("query", 3, q_len, seed=5), probe.drawn("key", 3, kv_len, seed=5)


def _why(case: Case, probe: Probe, query: Tensor, key: Tensor, sums: Tensor) -> tuple[str, str]:
    weights = probe.weights(query, key)
    told = f"the weights of a query sum to {sums.min().item():.3g} to {sums.max().item():.3g}"
    axis = _axis(weights)
    if axis:
        return (
            "softmax-wrong-axis",
            f"{told}; over {axis} they sum to the same everywhere: softmax runs over {axis}",
        )
    found = value_map(case)
    if found.source is None:
        return scrambled(case, found.size)
    if case.declared.causal and (sums[:, -1] - 1).abs().max() < ROUNDING:
        return (
            "mask-after-softmax",
            f"{told}: to one only where no key is hidden, so hidden keys had their part",
        )
    if (weights == weights.half()).all() or (weights == weights.bfloat16()).all():
        return "low-precision", f"{told}, and each weight is a number of half precision"
    return _by_peaks(case, probe, told, sums) or _by_length(probe, told) or _leaking(probe, told, sums)


def _by_peaks(case: Case, probe: Probe, told: str, sums: Tensor) -> tuple[str, str] | None:
    """What a value counts that alone is read: not one, though nothing is left to normalise."""
    one, two = (_peaks(probe, size) for size in (10.0, 14.0))
    if (one - two).abs().max() > 1e-3 or one.min() < 0.05:
        return None
    if sums.max() - sums.min() < 1e-6 * sums.max():
        return _scaled(case, probe, sums.mean().item())
    if one.max() - one.min() < 1e-3:
        return None
    place = int(one.argmin())
    return (
        "position-on-value",
        f"{told}: a value at place {place}, read alone, counts {one[place].item():.3g} times",
    )


def _by_length(probe: Probe, told: str) -> tuple[str, str] | None:
    """Weights of blocks that are full sum to one, and of others do not."""
    for length in (8, 16):
        if (row_sums(probe, *drawn_for(probe, length, length)) - 1).abs().max() <= ROUNDING:
            return "layout", f"{told}; for {length} tokens they sum to one: what fills up a block is read too"
    return None


def _axis(weights: Tensor) -> str:
    """Over which axis (batch, q_len, kv_len, width) weights sum to the same wherever there are any; "" if none."""
    there = weights.abs() > 1e-12
    for name, axes in {"queries": (1,), "samples": (0,), "heads": (3,), "queries and keys": (1, 2)}.items():
        sums, seen = weights.sum(axes), there.any(axes[0]) if len(axes) == 1 else there.any(1).any(1)
        known = sums[seen]
        wanted = known.mean() if name == "heads" else torch.ones(())
        if known.numel() > 1 and ((known - wanted).abs() < 1e-6 * wanted.abs()).all():
            return name
    return ""


def _peaks(probe: Probe, size: float) -> Tensor:
    """How much of each value arrives at the last query that reads nothing else, (kv_len,): the least of all numbers."""
    kv_len = KEYS if probe.memory else QUERIES
    query = size * torch.ones_like(probe.zeros("query", 1, QUERIES))
    found = []
    for s in range(kv_len):
        key = probe.zeros("key", 1, kv_len)
        key[:, s] = size
        found.append(probe.weight(query, key, s)[0, -1].min())
    return torch.stack(found)


def _scaled(case: Case, probe: Probe, total: float) -> tuple[str, str]:
    told = f"the weights of every query sum to {total:.4g}"
    dropout = case.declared.dropout or next(
        (part.p for part in case.subject.module.modules() if isinstance(part, torch.nn.Dropout) and part.p),
        0.0,
    )
    if dropout and min(abs(total - 1 / (1 - dropout)), abs(total - 1 + dropout)) < 1e-6:
        return "dropout-not-rescaled", f"{told} in evaluation, which dropout={dropout:g} explains"
    heads = case.declared.num_heads
    root = (probe.widths["query"] / heads) ** -0.5 if heads else None
    known = f" = 1/sqrt({probe.widths['query'] // (heads or 1)})" if root and abs(root - total) < 1e-6 else ""
    return "scale-after-softmax", f"{told}{known}, whatever is asked: they are multiplied after the softmax"


def _leaking(probe: Probe, told: str, sums: Tensor) -> tuple[str, str]:
    """A sink takes the same from any number of keys with scores of zero: n / (n + c)."""
    if sums.min() > 0 and sums.max() < 1:
        extra = []
        for length in (3, 6):
            query, key = probe.zeros("query", 1, length), probe.zeros("key", 1, length)
            row = probe.weights(query, key)[0, -1]  # kv_len, width
            count = (row > 0).sum(0)
            extra.append(count / row.sum(0) - count)
        if ((extra[0] - extra[1]).abs() < 1e-4 * extra[0]).all():
            size = extra[0].mean().item()
            return "sink-wrong", f"{told}: as if one more key took exp(score) = {size:.3g} from every query"
    return "softmax-missing", f"{told}, where a softmax gives 1"


CHECKS = (
    Check(
        "rows",
        "basic",
        run_rows,
        "the weights of a query sum to one",
        SHARES,
    ),
)
