"""What a probe reads: which value reaches which number of the context, and which numbers of query and key meet.

    z = log w[q, k] - log w[q, other key]      a difference of scores, whatever else is added to a row

Everything is a difference of such differences, so that a bias, a sink or a relative position falls out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.conformance.case import Case, Skip
from attnkit.conformance.probe import Probe, probe_of

SMALL = 0.3  # of query and key numbers, so that a cap hardly bends the score
SURE = 1e-3  # of the largest entry: below it, an entry is none
WIDEST = 96


@dataclass(frozen=True)
class ValueMap:
    """Which value reaches which number of the context.

    Attributes:
        size: (q_len, width, kv_len, value width), how strongly.
        source: for each number of the context the number of the value that it is made of; None where that is not one.
    """

    size: Tensor
    source: Tensor | None


def value_map(case: Case) -> ValueMap:
    """Each number of each value alone, and where it arrives.

    Raises:
        Skip: there is no probe, or it is too wide.
    """
    if "value_map" not in case.facts:
        probe = probe_of(case)
        _need_readable(case, probe)
        case.facts["value_map"] = _mapped(probe)
    return case.facts["value_map"]


def _need_readable(case: Case, probe: Probe) -> None:
    case.need(probe.apart, "its samples are not apart, which comes first")
    case.need(
        max(probe.widths.values()) <= WIDEST,
        f"it is wider than {WIDEST} numbers, too wide to read one by one",
    )


def _mapped(probe: Probe) -> ValueMap:
    length, width = 4, probe.widths["value"]
    values = torch.eye(length * width, dtype=torch.float64).view(-1, length, width)
    query, key = (
        probe.drawn(role, 1, length, size=0.5).expand(len(values), -1, -1) for role in ("query", "key")
    )
    context = probe(query, key, values)
    size = context.view(length, width, *context.shape[1:]).permute(
        2, 3, 0, 1
    )  # to q_len, width, kv_len, value
    seen = size.abs() > SURE * 1e-3 * size.abs().max()
    anywhere = seen.any(2).any(0)
    source = anywhere.long().argmax(-1) if (anywhere.sum(-1) == 1).all() else None
    return ValueMap(size, source)


def differences(probe: Probe, query: Tensor, key: Tensor) -> Tensor:
    """Scores of the last key against those of the key before it, for the last query: (batch, width).

    Raises:
        Skip: the weights are none of a softmax.
    """
    last, before = (probe.weight(query, key, s)[:, -1] for s in (-1, -2))
    found = last.log() - before.log()
    if not found.isfinite().all():
        raise Skip("its weights are not above zero, or it does not read the token before")
    return found


def dot(probe: Probe, query: Tensor, key: Tensor) -> Tensor:
    """The part of the last score that is made of query and key both: (batch, width); every other key is zero."""
    none_q, none_k = torch.zeros_like(query), torch.zeros_like(key)
    return (
        differences(probe, query, key)
        - differences(probe, query, none_k)
        - differences(probe, none_q, key)
        + differences(probe, none_q[:1], none_k[:1])
    )


def at_the_end(probe: Probe, role: str, numbers: Tensor, length: int) -> Tensor:
    """Zeros but for these numbers (batch, width) at the last token."""
    found = probe.zeros(role, len(numbers), length)
    found[:, -1] = numbers.to(found)
    return found


def pairs(case: Case) -> Tensor:
    """How strongly each number of a query meets each number of a key, (query, key, context width), at distance zero.

    Raises:
        Skip: there is no probe, it is too wide, or scores are none of a dot product.
    """
    if "pairs" not in case.facts:
        probe = probe_of(case)
        _need_readable(case, probe)
        case.need(kind_of_scores(case) == "dot", "its scores are no dot product of query and key")
        case.facts["pairs"] = _paired(probe)
    return case.facts["pairs"]


def _paired(probe: Probe) -> Tensor:
    wide_q, wide_k = probe.widths["query"], probe.widths["key"]
    one_q, one_k = (SMALL * torch.eye(wide + 1, wide, dtype=torch.float64) for wide in (wide_q, wide_k))
    query = at_the_end(probe, "query", one_q.repeat_interleave(wide_k + 1, 0), 2)
    key = at_the_end(probe, "key", one_k.repeat(wide_q + 1, 1), 2)
    table = differences(probe, query, key).view(
        wide_q + 1, wide_k + 1, -1
    )  # the last row and column are zero
    table = table - table[-1:] - table[:, -1:] + table[-1:, -1:]
    return table[:-1, :-1] / SMALL**2


def kind_of_scores(case: Case) -> str:
    """Whether scores double with the query, "dot", do not grow, "normalised", or neither, "other".

    Raises:
        Skip: there is no probe, or weights are none of a softmax.
    """
    if "scores" not in case.facts:
        probe = probe_of(case)
        query, key = (probe.drawn(role, 4, 2, size=0.1, seed=3) for role in ("query", "key"))
        key[:, 0] = 0
        one, query_twice, key_twice = (
            dot(probe, query, key),
            dot(probe, 2 * query, key),
            dot(probe, query, 2 * key),
        )
        size = one.abs().max().item()
        case.need(size > 1e-9, "its weights do not depend on query and key")
        for twice in (query_twice, key_twice):
            near = [(twice - factor * one).abs().max().item() / size for factor in (1, 2)]
            kind = "dot" if near[1] < 0.02 else "normalised" if near[0] < 0.02 else "other"
            if kind != "dot":
                break
        case.facts["scores"] = kind
    return case.facts["scores"]
