"""Which tokens an output depends on: those that it may read, all of them, and no others.

What is declared is tested. A window that is not declared, or a pattern of its own, is found out and described.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import LENGTH, ROUNDING, Case, Check
from attnkit.conformance.claims import from_a_library
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import FUTURE
from attnkit.conformance.relations.leaks import why_future
from attnkit.conformance.relations.patterns import band, holes, in_words, is_band
from attnkit.conformance.relations.reads import MILD, Source, apart, attempted, by_gradients, moved
from attnkit.conformance.relations.walking import elsewhere

LARGE = (10.0, 100.0)
LONGEST = 64


def length_for(case: Case) -> int:
    """Tokens enough to see past a declared window."""
    return min(max(LENGTH, (case.declared.window or 0) + 3), LONGEST)


def run_influence(case: Case) -> Iterator[Finding]:
    """Leaks and blindness of self-attention."""
    case.need(not case.declared.cross, "it reads a memory, not its own tokens")
    source = Source(case)
    source.need_steady()
    keys = source.keys(3, length_for(case))
    found = moved(source, keys).amax(0)
    tilted = by_gradients(source, keys).amax(0)
    found = torch.maximum(found, tilted / tilted.max().clamp_min(1e-30))
    support = found > ROUNDING
    if not support.all():
        mild = keys * MILD  # a saturated softmax reads the rest too, but hardly
        support |= torch.maximum(moved(source, mild, draws=1), by_gradients(source, mild)).amax(0) > ROUNDING
    _note(case, found, support)
    yield from _leaks(case, source, keys, found, support)
    windows = list(_windows(case, source, support))
    yield from windows
    if not windows:
        yield from _blind(case, source, found, support)
        yield from _unread_by_itself(case, source)


def _note(case: Case, found: Tensor, support: Tensor) -> None:
    text, window = in_words(support)
    case.facts |= {"moves": found, "support": support, "pattern": text, "window": window}
    case.facts["causal"] = not support.triu(1).any()


def _leaks(case: Case, source: Source, keys: Tensor, found: Tensor, support: Tensor) -> Iterator[Finding]:
    if not case.declared.causal:
        return
    future = support.triu(1)
    size, large = 1.0, None
    if not future.any():
        size, large = _at_large_scores(source, keys)
        if large is None:
            return
        found = future = large
    q, k = divmod(int(torch.where(future > 0, found, 0.0).argmax()), keys.shape[1])
    fault, why = ("mask-fill-too-weak", "") if large is not None else why_future(source, keys, support)
    path = elsewhere(source, "future") if large is None else None
    if path:
        fault, why = "mask-skipped", f"; {path[1]} it does not"
    tail = f" once tokens are {size:g} times as large" if large is not None else ""
    yield Finding(
        "influence",
        fault,
        f"output {q} moves by {found[q, k].item():.2g} of its size when token {k} changes, which is later{tail}{why}",
        found[q, k].item(),
        ROUNDING,
        path=path[0] if path else "",
        data={"pairs": (future > 0).nonzero().tolist(), "size": size},
    )


def _at_large_scores(source: Source, keys: Tensor) -> tuple[float, Tensor | None]:
    """Where the first output reads later tokens when its own score is far below zero: how far, (len, len)."""
    for size in LARGE:
        base = attempted(source, keys * size)
        if base is None or not base.isfinite().all():
            continue
        far = torch.zeros(keys.shape[1], keys.shape[1], dtype=torch.float64)
        for s in (1, keys.shape[1] // 2):
            changed = keys * size
            changed[:, s:] = size * source.keys(*keys.shape[:2], seed=120)[:, s:]
            far[:s, s] = apart(base, source(changed))[:, :s].amax(0)
        if (far > ROUNDING).any():
            return size, far.where(far > ROUNDING, 0.0)
    return 1.0, None


def _windows(case: Case, source: Source, support: Tensor) -> Iterator[Finding]:
    window = case.declared.window
    if window is None or window + 3 > LONGEST:
        return
    before, after = band(support)
    seen = before + 1 + (0 if case.declared.causal else after)
    if window in (before + 1, seen) or not (before + 1 > window or is_band(support)):
        return
    path = elsewhere(source, "window") if before + 1 > window else None
    many = "all tokens" if before + 1 == support.shape[0] else f"{before + 1} tokens, its own included"
    yield Finding(
        "influence",
        "mask-skipped" if path else "window-off-by-one",
        f"output {support.shape[0] - 1} reads {many}; window={window} was declared"
        f"{f'; {path[1]} it holds' if path else ''}",
        float(seen),
        float(window),
        path=path[0] if path else "",
    )


def _blind(case: Case, source: Source, found: Tensor, support: Tensor) -> Iterator[Finding]:
    pairs = holes(support, causal=case.declared.causal, window=case.declared.window)
    if not pairs:
        return
    t, s = pairs[0]
    path = elsewhere(source, "blind", pair=(t, s))
    yield Finding(
        "influence",
        "blind",
        f"output {t} does not move when token {s} changes, which it should read"
        + (f" ({len(pairs)} such pairs)" if len(pairs) > 1 else "")
        + (f"; {path[1]} it does" if path else ""),
        found[t, s].item(),
        ROUNDING,
        path=path[0] if path else "",
        data={"pairs": [list(pair) for pair in pairs]},
    )


def _unread_by_itself(case: Case, source: Source) -> Iterator[Finding]:
    """Of two tokens, an output that reads the other alone has one key, and moves with no query."""
    if case.declared.causal or case.declared.window is not None or from_a_library(case):
        return
    keys = source.keys(3, 2, seed=15)
    if attempted(source, keys) is None:
        return
    found = torch.maximum(moved(source, keys), by_gradients(source, keys)).amax(0) > ROUNDING
    if not found.diagonal().any() and (found[0, 1] and found[1, 0]):
        yield Finding(
            "influence", "blind", "of two tokens, an output reads the other one alone, not its own", 0.0, 0.0
        )


CHECKS = (
    Check(
        "influence",
        "basic",
        run_influence,
        "an output depends on the tokens that it may read, and on no others",
        FUTURE,
    ),
)
