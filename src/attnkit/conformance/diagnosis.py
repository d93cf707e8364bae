"""From what was found to what it comes from: rules that a reader can follow, the most special first.

One wrong line breaks many checks at once. A rule names a root, and says which findings show it; the first rule that
holds is the diagnosis. What breaks everything stands before what breaks a thing, and a cause before its consequences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnkit.conformance.findings import Finding
from attnkit.conformance.suspects import suspect

Found = dict[str, list[Finding]]
When = Callable[[Found], bool]


@dataclass(frozen=True)
class Because:
    """One rule.

    Attributes:
        fault: the root that it names.
        when: whether these findings, by fault, show it.
        confidence: how sure it is, from 0 to 1.
    """

    fault: str
    when: When
    confidence: float


def has(*faults: str) -> When:
    """Whether each of these faults was found."""
    return lambda found: all(fault in found for fault in faults)


def without(*faults: str) -> When:
    """Whether none of these faults was found."""
    return lambda found: not any(fault in found for fault in faults)


def by(check: str, fault: str) -> When:
    """Whether a check found a fault."""
    return lambda found: any(one.check == check for one in found.get(fault, ()))


def only_by(check: str, fault: str) -> When:
    """Whether no check but one found a fault, or none did."""
    return lambda found: all(one.check == check for one in found.get(fault, ()))


def not_only_by(check: str, fault: str) -> When:
    """Whether another check than this one found a fault."""
    return lambda found: any(one.check != check for one in found.get(fault, ()))


def on_path(fault: str, words: str) -> When:
    """Whether a fault was found on a path whose name holds these words."""
    return lambda found: any(words in one.path for one in found.get(fault, ()))


def both(*parts: When) -> When:
    """Whether all of these hold."""
    return lambda found: all(part(found) for part in parts)


def below(fault: str, limit: float) -> When:
    """Whether a fault was found smaller than a limit wherever it was, or was not found."""
    return lambda found: all(one.measured < limit for one in found.get(fault, ()))


def _each(*faults: str) -> tuple[Because, ...]:
    return tuple(Because(fault, has(fault), 0.7) for fault in faults)


RULES: tuple[Because, ...] = (
    # other calls, other results: every comparison fails
    *_each("dropout-in-eval", "dropout-sticky"),
    Because("layout", by("unwritten", "layout"), 0.8),
    Because("mask-stale", both(has("mask-stale"), without("state-changed", "nondeterministic")), 0.8),
    *_each("state-changed", "nondeterministic", "mask-stale"),
    # a batch of one that goes another way looks as if samples met
    Because(
        "mask-skipped",
        both(on_path("mask-skipped", "batch of one"), only_by("samples", "batch-crosstalk")),
        0.8,
    ),
    # rounding inside, which every comparison of equal outputs sees
    Because("low-precision", by("smooth", "low-precision"), 0.8),
    # tokens, heads and samples are mixed up: masks and positions fail too
    *_each("batch-time-swapped", "heads-split-wrong", "heads-merged-wrong"),
    # tokens exchanged between two texts of one length: a mask hides the wrong ones
    Because("query-key-swapped", by("equal_lengths", "query-key-swapped"), 0.8),
    Because("value-from-key", by("equal_lengths", "value-from-key"), 0.8),
    Because("softmax-wrong-axis", not_only_by("constant", "softmax-wrong-axis"), 0.8),
    Because("batch-crosstalk", has("batch-crosstalk"), 0.7),
    # a leak that no way of masking explains, so what else a mask of keys lets through comes of it
    Because("future-leak", by("influence", "future-leak"), 0.8),
    # how a mask acts: what it hides leaks
    Because("mask-skipped", by("influence", "mask-skipped"), 0.8),
    *_each("softcap-wrong", "mask-inverted", "mask-added-as-number", "mask-after-softmax", "mask-wrong-axis"),
    *_each("mask-wrong-row", "mask-fill-too-weak", "mask-ignored", "mask-skipped"),
    # equal tokens that give another output than one of them alone: the axis is wrong, unless something else does that
    Because("position-on-value", both(by("rows", "position-on-value"), has("softmax-wrong-axis")), 0.7),
    Because("sink-wrong", both(by("rows", "sink-wrong"), has("softmax-wrong-axis")), 0.7),
    Because("blind", both(by("influence", "blind"), has("softmax-wrong-axis")), 0.7),
    Because("softmax-wrong-axis", has("softmax-wrong-axis"), 0.7),
    # decoding
    *_each("cache-causal-alignment", "cache-window", "cache-stale"),
    # positions; where near places are right but for the rounding of bfloat16, the far ones tell
    Because(
        "position-precision",
        both(has("position-precision"), without("position-missing"), below("position-layout", 0.05)),
        0.7,
    ),
    *_each("position-on-value", "alibi-sign", "alibi-slope", "position-layout", "position-missing"),
    *_each("position-precision", "position-offset", "cache-mismatch", "window-off-by-one", "future-leak"),
    # heads and projections
    *_each("grouped-heads-tiled", "value-from-key", "query-key-swapped", "heads-mixed"),
    # how weights are made
    *_each("scale-after-softmax", "sink-wrong", "softmax-missing"),
    *_each("scale-missing", "scale-by-width", "scale-wrong"),
    *_each("gradient-blocked", "gradient-wrong", "blind", "projection-unused"),
    *_each("dead-row-nan", "dead-row-junk"),
    *_each("dropout-before-softmax", "dropout-never", "dropout-not-rescaled", "dropout-shared"),
    *_each("layout", "shape-assumption", "low-precision"),
    # no cause, but that there is one: any name above tells more
    *_each("reference-mismatch"),
)


def diagnosed(findings: Sequence[Finding], target: Any = None) -> tuple[str | None, float, str]:
    """The most likely root of what was found.

    Args:
        findings: what was found.
        target: the module or function, for the line of its source that most likely does it.

    Returns:
        The fault, how sure that is, and the sentence of the finding that shows it best; None where nothing was found.
    """
    if not findings:
        return None, 1.0, "nothing was found"
    found: Found = {}
    for finding in findings:
        found.setdefault(finding.fault, []).append(finding)
    fault, confidence = _root(found)
    sentence = _best(found.get(fault) or findings)
    line = "" if target is None else suspect(target, fault)
    return fault, confidence, f"{sentence}; see {line}" if line else sentence


def _root(found: Found) -> tuple[str, float]:
    because = next(rule for rule in RULES if rule.when(found))
    # one name alone leaves no choice
    return because.fault, 0.9 if len(found) == 1 else because.confidence


def _best(findings: Sequence[Finding]) -> str:
    """The sentence of what is so on every path, before what is so on one."""
    return min(findings, key=lambda finding: bool(finding.path)).sentence
