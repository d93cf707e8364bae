"""What a mask of keys hides may hold anything, and what it keeps is read.

output(tokens, keep) = output(the same with other tokens where keep is False),   at queries that are kept
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import PADDING
from attnkit.conformance.relations.leaks import why_hidden
from attnkit.conformance.relations.reads import MILD, Source, apart, attempted, by_gradients, moved
from attnkit.conformance.relations.walking import PATHS, elsewhere, mask_for, wrong

SIZES = (1.0, 30.0)
LARGE = (10.0, 100.0)
ALIKE = 1e-3
_HEADS = (
    "num_heads",
    "n_heads",
    "n_head",
    "num_kv_heads",
    "n_kv_heads",
    "num_key_value_heads",
    "heads",
    "nhead",
    "h",
)


def through(source: Source, keys: Tensor, keep: Tensor) -> float | None:
    """How far outputs of kept queries move with what stands at hidden tokens; None where the mask is refused."""
    base = attempted(source, keys, keep)
    if base is None:
        return None
    worst, rows = 0.0, source.rows(keep)
    for draw, size in enumerate(SIZES):
        other = size * source.keys(*keys.shape[:2], seed=40 + draw) * (keys.std() / 3)
        junk = torch.where(keep[..., None], keys, other)
        plain = attempted(source, junk)
        if plain is None or not plain.isfinite().all():
            continue  # it cannot take such tokens at all
        after = attempted(source, junk, keep)
        if after is not None:
            far = apart(base, after)[rows & base.isfinite().all(-1)]
            worst = max(worst, far.max().item() if far.numel() else 0.0)
    return worst


def let_through(source: Source, name: str) -> Iterator[Finding]:
    """Everything about a mask of keys, of the tokens or of a memory."""
    source.need_steady()
    given = mask_for(source, 3, 7)
    found = None if given is None else through(source, *given)
    if given is not None and found is not None and found > ROUNDING:
        yield _leak(source, name, *given, found)
        return
    lost = [] if given is None else list(_not_finite(source, name, *given))
    yield from lost
    if lost:
        return
    collided = list(_collisions(source, name))
    yield from collided
    if given is None:
        source.case.need(collided, "it refuses a mask of keys (batch, kv_len)")
        return
    yield from _weak(source, name)
    yield from _too_much(source, name, *given)


def _not_finite(source: Source, name: str, keys: Tensor, keep: Tensor) -> Iterator[Finding]:
    output, rows = source(keys, keep), source.rows(keep)
    bad = ~output.isfinite().all(-1) & rows
    if bad.any():
        fault, why = why_hidden(source, keys, keep)
        inverted = fault == "mask-inverted"
        source.case.facts["mask fault"] = fault if inverted else "dead-row-nan"
        sentence = (
            f"{int(bad.sum())} of {int(rows.sum())} outputs that have keys to read are not finite with a mask"
        )
        yield Finding(
            name,
            fault if inverted else "dead-row-nan",
            f"{sentence}; {why}" if inverted else sentence,
            float(bad.sum()),
        )


def _leak(source: Source, name: str, keys: Tensor, keep: Tensor, found: float) -> Finding:
    one_mask = [through(source, keys, row.expand_as(keep)) for row in keep]
    path = elsewhere(source, "padding")
    if path:
        fault, why = "mask-skipped", f"{path[1]} they do not"
    elif all(far is not None and far <= ROUNDING for far in one_mask) and _crosstalk(source, keys):
        fault, why = "batch-crosstalk", "without a mask, a sample moves with another"
    elif all(far is not None and far <= ROUNDING for far in one_mask):
        fault, why = "mask-wrong-row", "where all samples have one mask they do not"
    else:
        fault, why = why_hidden(source, keys, keep)
    source.case.facts["mask fault"] = fault
    return Finding(
        name,
        fault,
        f"outputs move by {found:.2g} of their size with tokens that a mask hides; {why}",
        found,
        ROUNDING,
        path=path[0] if path else "",
    )


def _crosstalk(source: Source, keys: Tensor) -> bool:
    """Whether a sample moves with the tokens of the others, where there is no mask."""
    changed = source.keys(*keys.shape[:2], seed=41)
    changed[0] = keys[0]
    return bool((apart(source(keys), source(changed))[0] > ROUNDING).any())


def _collisions(source: Source, name: str) -> Iterator[Finding]:
    """Samples as many as heads, or as tokens: a mask that is broadcast to the wrong axes fits then."""
    for batch, length in _sizes(source.case):
        given = mask_for(source, batch, length)
        found = None if given is None else through(source, *given)
        if given is None or found is None or found <= ROUNDING:
            continue
        keys, keep = given
        same = through(source, keys, keep[:1].expand_as(keep))
        mixed = same is not None and same <= ROUNDING
        fault = ("mask-wrong-axis" if batch == length else "mask-wrong-row") if mixed else "mask-skipped"
        why = "; where all samples have one mask they do not" if mixed else ""
        source.case.facts["mask fault"] = fault
        path = f"{batch} samples of {length} tokens"
        yield Finding(
            name,
            fault,
            f"with {path}, outputs move by {found:.2g} of their size with tokens that a mask hides{why}",
            found,
            ROUNDING,
            path=path,
        )
        return


def _sizes(case: Case) -> list[tuple[int, int]]:
    counts = {2, 4, case.declared.num_heads or 4, case.declared.num_kv_heads or 2}
    for part in case.subject.module.modules():
        counts |= {count for name in _HEADS if type(count := getattr(part, name, None)) is int}
    tokens = next(count for count in (5, 7, 9, 11) if count not in counts)
    return [(tokens, tokens), *((count, 7) for count in sorted(counts) if 1 < count <= 12 and count != 7)]


def _weak(source: Source, name: str) -> Iterator[Finding]:
    """One kept token whose own score is far below those of hidden ones, or far below zero.

    Hidden tokens move a little: large moves could underflow what is kept where weights are normalised twice, which is
    right.
    """
    keep = torch.zeros(3, 7, dtype=torch.bool)
    keep[:, -1] = True
    sizes = (
        [size**2 for size in LARGE] if source.memory else LARGE
    )  # scores grow as the square where queries grow too
    for size, alike in ((size, alike) for size in sizes for alike in (True, False)):
        keys = size * source.keys(3, 7, seed=33)
        hidden = keys[:, -1:].expand(-1, 7, -1) if alike else keys  # alike: all scores far below zero
        one, other = (
            torch.where(keep[..., None], keys, hidden + ALIKE * size * source.keys(3, 7, seed=seed))
            for seed in (34, 35)
        )
        base, after = attempted(source, one, keep), attempted(source, other, keep)
        if base is None or after is None or not base.isfinite().all():
            return
        found = apart(base, after)[source.rows(keep)].max().item()
        if found > ROUNDING:
            source.case.facts["mask fault"] = "mask-fill-too-weak"
            sentence = (
                f"outputs move by {found:.2g} of their size with tokens that a mask hides, once tokens are "
                f"{size:g} times as large: scores beat the number that hides"
            )
            yield Finding(name, "mask-fill-too-weak", sentence, found, ROUNDING, data={"size": size})
            return


def _too_much(source: Source, name: str, keys: Tensor, keep: Tensor) -> Iterator[Finding]:
    """Tokens that a mask keeps are read by somebody, where more than one output reads them without it."""
    plain, masked = (by_gradients(source, keys, mask) > 0 for mask in (None, keep))
    pairs = source.pairs(keep) & keep[:, None, :]
    lost = ((pairs & plain).sum(1) > 1) & ~(pairs & masked).any(1)
    if lost.any():
        for tokens in (keys, keys * MILD):
            lost &= ~(pairs & (moved(source, tokens, keep) > ROUNDING)).any(1)
            lost &= ~(pairs & (by_gradients(source, tokens, keep) > 0)).any(1)
    if lost.any():
        b, s = (int(i) for i in lost.nonzero()[0])
        sentence = (
            f"no other output reads token {s} of sample {b}, which a mask keeps; without a mask they do"
        )
        yield Finding(name, "blind", sentence, 0.0, ROUNDING, data={"lost": lost.nonzero().tolist()})


def run_padding(case: Case) -> Iterator[Finding]:
    """Other tokens where a mask hides them."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    case.need(not case.declared.cross, "its memory is padded by another check")
    case.need(case.facts.get("mask fault") != "mask-stale", "a call's mask depends on the call before")
    yield from let_through(Source(case), "padding")


def run_neutral(case: Case) -> Iterator[Finding]:
    """A mask that keeps everything changes nothing."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    source = Source(case, case.declared.cross)
    source.need_steady()
    keys = source.keys(3, 7)
    case.need(case.facts.get("mask fault") != "mask-stale", "a call's mask depends on the call before")
    plain, masked = attempted(source, keys), attempted(source, keys, torch.ones(3, 7, dtype=torch.bool))
    case.need(masked is not None and plain is not None, "it refuses a mask that keeps everything")
    assert masked is not None and plain is not None  # noqa: PT018, for the type checker
    far = apart(plain, masked).max().item()
    if far > ROUNDING:
        fault, why = _why_not_neutral(source, keys, masked)
        sentence = f"a mask that keeps everything moves outputs by {far:.2g} of their size{why}"
        yield Finding("neutral_mask", fault, sentence, far, ROUNDING)


def _why_not_neutral(source: Source, keys: Tensor, masked: Tensor) -> tuple[str, str]:
    case = source.case
    open_path = next(path for path in PATHS if path.mask == "all")
    if "mask fault" in case.facts:
        return case.facts["mask fault"], ""
    if (
        case.declared.causal
        and not case.declared.cross
        and (wrong(source, open_path, "future") or 0) > ROUNDING
    ):
        return "mask-skipped", ": later tokens are read then"
    if not masked.isfinite().all() or _reads_nothing(source, keys):
        return "mask-inverted", ": they move with no other token then"
    return "mask-added-as-number", ""


def _reads_nothing(source: Source, keys: Tensor) -> bool:
    keep = torch.ones(keys.shape[:2], dtype=torch.bool)
    return not (moved(source, keys, keep, draws=1) > ROUNDING)[source.pairs(keep)].any()


CHECKS = (
    Check(
        "padding",
        "basic",
        run_padding,
        "outputs of kept tokens do not depend on tokens that a mask hides, and still on those that it keeps",
        PADDING,
    ),
    Check(
        "neutral_mask",
        "basic",
        run_neutral,
        "a mask that keeps everything changes nothing",
        PADDING,
    ),
)
