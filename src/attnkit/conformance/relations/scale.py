"""Scores are query times key times 1/sqrt(head_dim), from small scores to large ones.

z(a) = scale * a        a softcap bends it to cap * tanh(scale * a / cap)
"""

import math
from collections.abc import Iterator

import torch

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.claims import from_a_library
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import SCALE
from attnkit.conformance.probe import Probe, probe_of
from attnkit.conformance.readings import SURE, at_the_end, dot, kind_of_scores, pairs
from attnkit.conformance.relations.heads import head_sizes
from attnkit.conformance.relations.softmax import drawn_for, row_sums

NEAR = 1e-3
LENGTHS = (2, 5)


def run_scale(case: Case) -> Iterator[Finding]:
    """Read the scale, and name it."""
    case.need("rows_fault" not in case.facts, "its weights do not sum to one, which comes first")
    broken = case.facts.get("heads_fault") in ("heads-split-wrong", "heads-merged-wrong", "heads-mixed")
    case.need(not broken, "its heads are mixed up, which comes first")
    case.need(kind_of_scores(case) == "dot", "its scores are no dot product of query and key")
    probe = probe_of(case)
    most = row_sums(probe, *drawn_for(probe, 5, 5)).max().item()
    case.need(most <= 1 + ROUNDING, "its weights sum to more than one, as those of no softmax do")
    pair = _strongest(case)
    case.need(pair is not None, "no number of a query meets one of a key alone")
    assert pair is not None
    slopes = [_slope(probe, pair, 0.5, length) for length in LENGTHS]
    case.need(min(slopes) > 0, "no score grows with query and key")
    bend = {size: _slope(probe, pair, size / slopes[0], 2) * size / slopes[0] for size in (5.0, 50.0)}
    cap = _cap(bend)
    case.facts |= {"scale": slopes[0], "softcap": cap}
    yield from _capped(case, cap, bend)
    if not any(abs(bend[size] / size - 1) < NEAR for size in bend) and cap is None:
        return
    yield from _named(case, probe, slopes)


def _strongest(case: Case) -> tuple[int, int, int] | None:
    """A number of a query, one of a key, and one of the context whose score they make together."""
    table = pairs(case)
    mean = table.abs().amax(-1)
    if mean.max() <= 0:
        return None
    a, b = divmod(int(mean.argmax()), mean.shape[1])
    alone = (table[a].abs() > SURE * 10 * mean.max()).any(-1).sum() == 1
    return (a, b, int(table[a, b].abs().argmax())) if alone else None


def _slope(probe: Probe, pair: tuple[int, int, int], size: float, length: int) -> float:
    """The score of one number each, over `size`, which their product is."""
    a, b, c = pair
    query, key = torch.zeros(1, probe.widths["query"]), torch.zeros(1, probe.widths["key"])
    query[0, a], key[0, b] = math.sqrt(size), math.sqrt(size)
    both = at_the_end(probe, "query", query, length), at_the_end(probe, "key", key, length)
    return dot(probe, *both)[0, c].item() / size


def _cap(bend: dict[float, float]) -> float | None:
    """The cap that bends scores of 5 and of 50 as they are; None where none is needed, or none does."""
    if abs(bend[50.0] / 50 - 1) < NEAR:
        return None
    low, high = 0.01, 1e4
    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if middle * math.tanh(50 / middle) < bend[50.0] else (low, middle)
    return low if abs(low * math.tanh(5 / low) / bend[5.0] - 1) < 0.01 else None


def _capped(case: Case, cap: float | None, bend: dict[float, float]) -> Iterator[Finding]:
    wanted = case.declared.softcap
    straight = abs(bend[50.0] / 50 - 1) < NEAR
    told = (
        f"scores are capped at {cap:.4g}"
        if cap
        else "scores are not capped"
        if straight
        else "scores are bent"
    )
    if wanted is not None and (cap is None or abs(cap / wanted - 1) > 0.01):
        yield Finding(
            "scale", "softcap-wrong", f"{told}; softcap={wanted:g} was declared", cap or math.inf, wanted
        )
    elif cap is not None and abs(cap - 1) < 0.01 and not from_a_library(case) and wanted is None:
        words = "no key gets more than e times the weight of another: weights are normalised twice"
        yield Finding("scale", "softmax-missing", words, bend[50.0], 50.0)
        case.facts["normalised_twice"] = True
    elif cap is not None and case.declared.causal and case.facts.get("causal") is False:
        words = f"{told}, hidden ones too: they are capped after the mask, so later tokens keep a weight"
        yield Finding("scale", "softcap-wrong", words, cap, math.inf)


def _named(case: Case, probe: Probe, slopes: list[float]) -> Iterator[Finding]:
    scale, wanted = slopes[0], case.declared.scale
    head_dim = head_sizes(case)[1]
    expected = head_dim**-0.5 if wanted is None else wanted
    if all(abs(slope / expected - 1) < NEAR for slope in slopes) or case.facts.get("normalised_twice"):
        return
    known = _known(case, probe, head_dim, slopes)
    if wanted is None and (from_a_library(case) or known is None):
        return
    if (
        wanted is None
        and known is not None
        and known[0] == "scale-missing"
        and case.declared.positions == "relative"
    ):
        return  # T5 leaves it out, and its first weights make up for it
    fault, words = known or ("scale-wrong", "")
    right = f"1/sqrt({head_dim}) = 1/sqrt(head_dim)" if wanted is None else "as declared"
    yield Finding(
        "scale",
        fault,
        f"its scale is {scale:.4g}{words}; expected {expected:.4g} = {right}"
        + (f"; where {scale:.4g} is meant, say scale={scale:.4g}" if wanted is None else ""),
        scale,
        expected,
        data={"scale": scale, "expected": expected, "head_dim": head_dim, "width": probe.widths["query"]},
    )


def _known(case: Case, probe: Probe, head_dim: int, slopes: list[float]) -> tuple[str, str] | None:
    """A scale that is a usual mistake, and what it is equal to."""
    width, heads = probe.widths["query"], probe.widths["query"] // head_dim
    if all(abs(slope * math.sqrt(length) - 1) < NEAR for slope, length in zip(slopes, LENGTHS, strict=True)):
        return "scale-wrong", " for two tokens and another for five: 1/sqrt(number of tokens)"
    if abs(slopes[0] / slopes[1] - 1) > NEAR:
        return None
    usual = [
        ("scale-missing", "", 1.0),
        ("scale-by-width", f" = 1/sqrt({width}) = 1/sqrt(d_model)", width**-0.5),
        ("scale-by-width", f" = 1/sqrt({case.subject.d_in}) = 1/sqrt(d_in)", case.subject.d_in**-0.5),
        ("scale-by-width", f" = 1/{width} = 1/d_model", 1 / width),
        ("scale-wrong", f" = 1/{head_dim} = 1/head_dim, as if scaled twice", 1 / head_dim),
        (
            "scale-wrong",
            f" = sqrt({head_dim}) = sqrt(head_dim), where it should be divided by it",
            head_dim**0.5,
        ),
        ("scale-wrong", f" = {head_dim} = head_dim", float(head_dim)),
        ("scale-wrong", f" = 1/sqrt({heads}) = 1/sqrt(num_heads)", heads**-0.5),
        (
            "scale-wrong",
            f" = sqrt({width}) = sqrt(d_model), where it should be divided by a root",
            width**0.5,
        ),
    ]
    for fault, words, number in usual:
        if abs(slopes[0] / number - 1) < NEAR:
            return fault, words
    return None


CHECKS = (
    Check(
        "scale",
        "basic",
        run_scale,
        "scores are query times key times 1/sqrt(head_dim)",
        SCALE,
    ),
)
