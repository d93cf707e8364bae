"""Why a mask leaks, as far as outputs tell: by how much, to whom, and in how many directions.

reads the hidden and not the kept          the mask is inverted
moves with hidden tokens in few directions weights see them, values do not: masked after the softmax
reads hidden tokens at a part of 1/e       0 and 1 were added to the scores
reads them only at large scores            a finite value was written where scores can beat it
"""

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING
from attnkit.conformance.relations.reads import MILD, Source, apart, attempted, by_gradients, moved, rank

NEARLY_ALL = 0.95
WEAK = 0.05  # less than this part of its influence is left to what an added 1 hides


def why_future(source: Source, keys: Tensor, support: Tensor) -> tuple[str, str]:
    """The fault behind a leak of later tokens, and more words for its sentence."""
    length = keys.shape[1]
    ones = torch.ones(length, length, dtype=torch.bool)
    later, earlier = ones.triu(1), ones.tril(-1)
    if not support[later].all():
        mild = keys * MILD
        tilted = torch.maximum(moved(source, mild), by_gradients(source, mild)).amax(0)
        some = not tilted[later].gt(ROUNDING).any()
        return ("mask-fill-too-weak", "; with small scores it does not") if some else ("future-leak", "")
    if not support[earlier].any():
        return "mask-inverted", ", and no output reads what is before it"
    few, all_of = (rank(source, keys * 0.2, None, pair) for pair in ((0, 0, length - 1), (0, length - 1, 0)))
    if 0 < 2 * few <= all_of:
        if _last_row_sums_to_one(source):
            return "mask-after-softmax", ", though the value of that token is not read: its score is"
        return "softmax-wrong-axis", ", and equal tokens do not give what one of them gives"
    mild = keys * MILD
    share, moving = (
        _later_share(table.mean(0)) for table in (by_gradients(source, mild), moved(source, mild))
    )
    if max(share, moving) < WEAK:
        if not _last_row_sums_to_one(source):
            return "softmax-wrong-axis", ", and equal tokens do not give what one of them gives"
        return "mask-fill-too-weak", f"; later tokens keep {share:.1g} of the influence of earlier ones"
    if 0.3 < share < 0.45:
        return "mask-added-as-number", f"; they keep {share:.2g} of the influence of earlier ones, near 1/e"
    return "future-leak", ""


def _later_share(table: Tensor) -> float:
    """How much later tokens move an output, as a part of what earlier ones do."""
    rows = [
        table[t, t + 1 :].median() / table[t, :t].median().clamp_min(1e-30) for t in range(1, len(table) - 1)
    ]
    return torch.stack(rows).median().item()


def _last_row_sums_to_one(source: Source) -> bool:
    token = source.keys(1, 1, seed=130)
    one, many = (attempted(source, token.expand(1, length, -1).contiguous()) for length in (1, 5))
    return one is None or many is None or bool((apart(one, many[:, -1:]) < 1e-3).all())


def why_hidden(source: Source, keys: Tensor, keep: Tensor) -> tuple[str, str]:
    """The fault behind a mask of keys that lets hidden tokens through, and words that tell it."""
    rows, masked, plain = source.rows(keep), source(keys, keep), source(keys)
    change = apart(plain, masked)
    if not (change > ROUNDING).any():
        return "mask-ignored", "the outputs are those without a mask"
    if not source.memory and not (change[rows] > ROUNDING).any():
        return "mask-wrong-axis", "only outputs of hidden tokens differ from those without a mask"
    if _inverted(source, keys, keep):
        return "mask-inverted", "hidden tokens are read, and kept ones are not"
    hidden, kept = _example(source, keys, keep)
    if hidden and kept:
        few, all_of = (rank(source, keys * 0.2, keep, pair) for pair in (hidden, kept))
        if 0 < 2 * few <= all_of:
            return "mask-after-softmax", "their scores are read, their values are not"
    if not source.case.declared.causal and _hides_heads(source, keys):
        return "mask-wrong-axis", "it matters which of the first tokens it hides, and not whether the last"
    share = _share(source, keys, keep)
    if share > NEARLY_ALL:
        return "mask-fill-too-weak", "small tokens keep all of their influence, though it moves outputs"
    if share >= WEAK:
        return "mask-added-as-number", f"small tokens keep {share:.2g} of their influence behind it"
    return (
        "mask-fill-too-weak",
        f"small tokens keep {share:.1g} of their influence behind it, large ones more",
    )


def _hides_heads(source: Source, keys: Tensor) -> bool:
    """Whether hiding the first token moves others, and hiding the last does not, though others read it."""
    batch, length = keys.shape[:2]
    far = []
    for hidden in (0, length - 1):
        keep = torch.ones(batch, length, dtype=torch.bool)
        keep[:, hidden] = False
        after = attempted(source, keys, keep)
        if after is None:
            return False
        far.append(apart(source(keys), after)[source.rows(keep)].max().item())
    reads_last = by_gradients(source, keys)[:, : length - 1, length - 1].gt(0).any()
    return far[1] <= ROUNDING < far[0] and bool(reads_last)


def _swapped(source: Source, keys: Tensor, which: Tensor, keep: Tensor) -> Tensor:
    """Tokens of which some are replaced, but a query's own: by the last token of each sample that is not of them."""
    other = source.keys(*keys.shape[:2], seed=140) * (keys.std() / 3)
    return torch.where(which[..., None], other, keys)


def _inverted(source: Source, keys: Tensor, keep: Tensor) -> bool:
    """Whether kept tokens do not matter to others, and hidden ones do."""
    base = attempted(source, keys, keep)
    if base is None:
        return False
    others = torch.zeros_like(keep)
    spared = (
        keep.long().cumsum(-1).argmax(-1)
    )  # the last kept token of each sample, whose output is looked at
    others[keep] = True
    if not source.memory:
        others[torch.arange(len(keep)), spared] = False
    rows = (
        source.rows(keep)
        if source.memory
        else torch.zeros_like(keep).scatter(1, spared[:, None], torch.ones_like(spared[:, None]).bool())
    )
    with_kept = apart(base, source(_swapped(source, keys, others, keep), keep))[rows]
    with_hidden = apart(base, source(_swapped(source, keys, ~keep, keep), keep))[rows]
    seen = torch.isfinite(base).all(-1)[rows]
    if not seen.any():
        return True  # nothing is left to read for any of them
    return bool((with_kept[seen] <= ROUNDING).all() and (with_hidden[seen] > ROUNDING).any())


def _example(source: Source, keys: Tensor, keep: Tensor) -> list[tuple[int, int, int] | None]:
    """The output and the hidden token that move together most, and the same with a kept token."""
    tilted = by_gradients(source, keys * 0.2, keep) * source.pairs(keep)
    found: list[tuple[int, int, int] | None] = []
    for kept in (False, True):
        some = tilted * (keep == kept)[:, None, :]
        b, t, s = (int(i) for i in torch.unravel_index(some.argmax(), some.shape))
        found.append((b, t, s) if some.max() > 0 else None)
    return found


def _share(source: Source, keys: Tensor, keep: Tensor) -> float:
    """How much of its influence a hidden token keeps behind the mask, where weights are near to uniform."""
    masked, plain = (by_gradients(source, keys * MILD, mask) for mask in (keep, None))
    pairs = source.pairs(keep) & ~keep[:, None, :] & (plain > ROUNDING * plain.max())
    return (masked[pairs] / plain[pairs]).median().item() if pairs.any() else 0.0
