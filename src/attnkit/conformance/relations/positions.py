"""Positions: they have an effect, on query and key alone, by distance alone, near and far alike.

    rotary     score(t, s) = q R(t - s) k          R(0) = 1: a query meets the key of its own place unturned
    alibi      score(t, s) = q k - slope[h] (t - s)
    relative   score(t, s) moves with t - s        in whatever way

What is declared is tested; what is not is found out and described.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check, Skip
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import ORDER
from attnkit.conformance.probe import Probe, probe_of
from attnkit.conformance.readings import kind_of_scores, value_map
from attnkit.conformance.relations.heads import head_sizes
from attnkit.conformance.relations.turning import turned
from attnkit.scores.alibi import Alibi

LENGTH = 6
FLAT = 1e-4  # of scores of about one: float32 tables move them by 1e-6
KINDS = ("rotary", "alibi", "relative")


def profile(probe: Probe, *, content: bool) -> Tensor:
    """Scores by place (q_len, kv_len, width) where every query is the same, and every key; zero without content."""
    query, key = (probe.drawn(role, 1, 1, seed=30).expand(1, LENGTH, -1) for role in ("query", "key"))
    scores = probe.weights(query * content, key * content)[0].log()
    return scores - scores.diagonal(dim1=0, dim2=1).mT[:, None]


def run_positions(case: Case) -> Iterator[Finding]:
    """Positions that act on scores."""
    case.need(case.declared.positions != "absolute", "places are added to the tokens, before the projections")
    case.need(not case.declared.cross, "a memory has its own places")
    case.need("rows_fault" not in case.facts, "its weights do not sum to one, which comes first")
    case.need("heads_fault" not in case.facts, "its heads are mixed up, which comes first")
    probe = probe_of(case)
    case.need(probe.apart, "its samples are not apart, which comes first")
    same, bare = profile(probe, content=True), profile(probe, content=False)
    case.need(_readable(same).any(), "no query reads another token")
    moves, biased = (_range(one) > FLAT for one in (same, bare))
    case.facts["positions_found"] = "bias" if biased else "turned" if moves else ""
    declared = case.declared.positions
    if declared in KINDS and not moves and not biased:
        words = f"positions={declared!r} was declared, and the same token is read alike at every place"
        yield Finding("positions", "position-missing", words, _range(same), FLAT)
    elif declared == "alibi":
        yield from _alibi(case, bare)
    elif declared == "relative":
        yield from _shifting(same)
    if declared in (None, "rotary"):
        yield from _rotary(case, declared == "rotary" and moves)


def _readable(scores: Tensor) -> Tensor:
    """Pairs of a query and an earlier key that it reads, (q_len, kv_len)."""
    length = scores.shape[0]
    return torch.ones(length, length, dtype=torch.bool).tril(-1) & scores.isfinite().all(-1)


def _range(scores: Tensor) -> float:
    """How far scores of one row are apart at most."""
    seen = _readable(scores)
    return max(
        (scores[t][seen[t]].abs().max().item() for t in range(len(scores)) if seen[t].any()), default=0.0
    )


def _shifting(scores: Tensor) -> Iterator[Finding]:
    """By distance: a step from one key to the next is the same for the next query and the keys one later."""
    steps = scores[:, 1:] - scores[:, :-1]
    off = (steps[2:, 1:] - steps[1:-1, :-1]).abs().amax(-1)
    seen = _readable(scores)
    known = (seen[1:, 1:] & seen[1:, :-1])[1:, 1:] & (seen[1:, 1:] & seen[1:, :-1])[:-1, :-1]
    worst = off[known].max().item() if known.any() else 0.0
    if worst > FLAT:
        words = f"scores change by {worst:.2g} when query and key move on by one: they depend on more than the distance"
        yield Finding("positions", "position-offset", words, worst, FLAT)


def _alibi(case: Case, bare: Tensor) -> Iterator[Finding]:
    heads, _ = head_sizes(case)
    scores = bare[..., :: bare.shape[-1] // heads]  # one number of each head
    seen = _readable(scores)
    last = [s for s in range(LENGTH - 1) if seen[-1, s]]
    case.need(len(last) > 1, "its window is too short to see a slope")
    steps = torch.stack([scores[-1, s + 1] - scores[-1, s] for s in last])  # step, head
    found, wanted = steps.mean(0), Alibi(heads).slopes(torch.arange(heads)).double()
    case.facts["slopes"] = found.tolist()
    told = ", ".join(f"{slope:.3g}" for slope in found.tolist())
    if (found < 0).all():
        words = f"scores grow with distance by {told} a token; ALiBi lets them fall"
        yield Finding("positions", "alibi-sign", words, found.min().item(), 0.0)
    elif (steps - found).abs().max() > FLAT:
        least, most = steps[:, 0].min().item(), steps[:, 0].max().item()
        words = f"head 0 falls by {least:.3g} to {most:.3g} a token, in no straight line"
        yield Finding("positions", "alibi-slope", words, (steps - found).abs().max().item(), FLAT)
    elif (found - wanted).abs().max() > FLAT * wanted.max():
        right = ", ".join(f"{slope:.3g}" for slope in wanted.tolist())
        ratio = found / wanted
        same = (
            f": {ratio[0].item():.4g} times as much" if ratio.max() - ratio.min() < 1e-3 * ratio.max() else ""
        )
        words = f"the heads' slopes are {told}; ALiBi's are {right}{same}"
        yield Finding("positions", "alibi-slope", words, (found - wanted).abs().max().item(), FLAT)


def _rotary(case: Case, declared: bool) -> Iterator[Finding]:
    """How query and key are turned; a fault only where it was declared that they are."""
    case.need(kind_of_scores(case) in ("dot", "normalised"), "its scores are no dot product of query and key")
    value_map(case)
    heads, size = head_sizes(case)
    found = turned(probe_of(case), heads, size)
    case.need(found is not None, "no query reads the tokens before it")
    assert found is not None
    if declared or not found.fault:
        case.facts |= {"rotary": found.layout, "rotary_fault": found.fault}
    if declared and found.fault:
        yield Finding("positions", found.fault, found.words, found.off, FLAT, data={"layout": found.layout})


def run_far(case: Case) -> Iterator[Finding]:
    """A query meets the key before it far from the first token as it does near to it."""
    case.need(case.facts.get("rotary"), "it does not turn query and key")
    case.need(not case.facts.get("rotary_fault"), "it turns them wrongly, which comes first")
    probe = probe_of(case)
    near, far, length = _near_and_far(case, probe)
    off = (far - near).abs().max().item() / near.abs().max().clamp_min(1e-30).item()
    allowed = 4 * length * 2**-24  # an angle of `length` in float32, of query and of key
    if off > max(allowed, ROUNDING):
        words = f"the score of the key before differs by {off:.2g} of its size at place {length - 1} and at 2"
        yield Finding("far", "position-precision", words, off, allowed)


def _near_and_far(case: Case, probe: Probe) -> tuple[Tensor, Tensor, int]:
    """Scores of the key before at place 2 and at the last, against a key of zero one place before that."""
    for length in (300, 100, 50):
        try:
            return _before(probe, length, 2), _before(probe, length, length - 1), length
        except Skip:
            continue
    raise Skip("it takes no 50 tokens, or its window is too short")


def _before(probe: Probe, length: int, t: int) -> Tensor:
    query, key = probe.zeros("query", 4, length), probe.zeros("key", 4, length)
    one_q, one_k = (probe.drawn(role, 4, 1, seed=31)[:, 0] for role in ("query", "key"))
    query[:, t], key[:, t - 1] = one_q, one_k
    scores = [probe.weight(query, key, s)[:, t].log() for s in (t - 1, t - 2)]
    bare = [probe.weight(0 * query, 0 * key, s)[:, t].log() for s in (t - 1, t - 2)]
    found = scores[0] - scores[1] - bare[0] + bare[1]
    if not found.isfinite().all():
        raise Skip("the token before is not read")
    return found


def run_order(case: Case) -> Iterator[Finding]:
    """Positions of any kind show: outputs change when tokens change places."""
    case.need(not case.declared.cross, "a memory has its own places")
    support = case.facts.get("support")
    length = LENGTH if support is None else len(support)
    case.need(
        support is None or support.tril().sum() == length * (length + 1) / 2,
        "it does not read all tokens before",
    )
    x = case.tokens(2, length, seed=80)
    order = torch.randperm(length - 1, generator=case.generator(81))
    order = order.flip(0) if (order == torch.arange(length - 1)).all() else order
    swapped = torch.cat(
        [x[:, order], x[:, -1:]], 1
    )  # the last token stays, and reads all others in any order
    off = case.off(case.subject(swapped)[:, -1], case.subject(x)[:, -1])
    case.facts["ordered"] = off > ROUNDING
    if (
        off <= ROUNDING
        and case.declared.positions is not None
        and case.facts.get("positions_found", "") == ""
    ):
        words = f"positions={case.declared.positions!r} was declared, and the last output is the same in any order"
        yield Finding("order", "position-missing", words, off, ROUNDING)


CHECKS = (
    Check("order", "basic", run_order, "declared positions tell an order of tokens from another", ORDER),
    Check(
        "positions",
        "basic",
        run_positions,
        "positions act on scores, by distance",
        ORDER,
    ),
    Check("far", "full", run_far, "far positions are told apart as near ones are", ORDER),
)
