"""What a mask does in a second call, with padding on the left, and where what it hides is not a number."""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import PADDING
from attnkit.conformance.relations.reads import Source, apart, attempted
from attnkit.conformance.relations.walking import mask_for

PADS = 3


def run_stale(case: Case) -> Iterator[Finding]:
    """A second call with another mask, or with none, gives what it gives to a target that was never called before."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    source = Source(case, case.declared.cross)
    source.need_steady()
    given = mask_for(source, 3, 7)
    case.need(given, "it refuses a mask of keys (batch, kv_len)")
    assert given is not None  # for the type checker
    keys, first = given
    for told, second in (("another mask", first.roll(1, 0)), ("no mask", None)):
        again, fresh = _second(source, keys, second, second), _second(source, keys, first, second)
        if again is None or fresh is None:
            continue
        rows = (
            torch.ones_like(first[:, :1]).expand(again.shape[:2]) if second is None else source.rows(second)
        )
        far = apart(again, fresh)[rows].max().item()
        if far > ROUNDING:
            case.facts["mask fault"] = "mask-stale"
            sentence = f"a call with {told} moves by {far:.2g} of its size with the mask of the call before"
            yield Finding("stale_mask", "mask-stale", sentence, far, ROUNDING)
            return


def _second(source: Source, keys: Tensor, first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The output of a second call; None where the target refuses one of the two."""
    subject = source.case.subject.copied()
    if attempted(source, keys, first, subject) is None:
        return None
    return attempted(source, keys, second, subject)


def run_left_padding(case: Case) -> Iterator[Finding]:
    """Hidden tokens before a text change nothing, where positions are relative."""
    case.need(case.subject.takes_keep and not case.declared.cross, "it takes no mask of its own tokens")
    case.need(
        case.declared.positions in ("rotary", "alibi", "relative"), "no relative positions were declared"
    )
    case.need("own" not in case.facts.get("pattern", ""), "who reads whom depends on where a text begins")
    source = Source(case)
    text, junk = source.keys(3, 5, seed=70), source.keys(3, PADS, seed=71)
    keep = torch.ones(3, 5 + PADS, dtype=torch.bool)
    keep[:, :PADS] = False
    base, padded = attempted(source, text), attempted(source, torch.cat([junk, text], 1), keep)
    case.need(base is not None and padded is not None, "it refuses padding on the left")
    assert base is not None and padded is not None  # noqa: PT018, for the type checker
    far = apart(base, padded[:, PADS:]).max().item()
    if far > ROUNDING and "mask fault" not in case.facts:
        sentence = f"outputs move by {far:.2g} of their size with {PADS} hidden tokens before the text"
        yield Finding("left_padding", "position-offset", sentence, far, ROUNDING)


def run_nan_padding(case: Case) -> Iterator[Finding]:
    """Hidden tokens that are infinite or no numbers; zero times either is no number, so that few targets stand it."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    source = Source(case, case.declared.cross)
    source.need_steady()
    given = mask_for(source, 3, 7)
    case.need(given, "it refuses a mask of keys (batch, kv_len)")
    assert given is not None  # for the type checker
    keys, keep = given
    rows = source.rows(keep)
    for name, value in (("nan", float("nan")), ("infinity", float("inf"))):
        output = attempted(source, torch.where(keep[..., None], keys, value), keep)
        bad = None if output is None else ~output.isfinite().all(-1)
        if bad is not None and bad[rows].any():
            count = int(bad[rows].sum())
            sentence = f"hidden tokens that hold {name} make {count} of {int(rows.sum())} outputs not finite"
            yield Finding("nan_padding", "mask-fill-too-weak", sentence, float(count))
            return


CHECKS = (
    Check(
        "stale_mask",
        "basic",
        run_stale,
        "a call's mask is its own, whatever was given before",
        PADDING,
    ),
    Check(
        "left_padding",
        "basic",
        run_left_padding,
        "with relative positions, hidden tokens before a text change nothing",
        PADDING,
    ),
    Check("nan_padding", "strict", run_nan_padding, "hidden tokens may hold nan or infinity", PADDING),
)
