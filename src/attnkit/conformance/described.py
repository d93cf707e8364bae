"""What was found out of a target, in one line: "causal, 4 heads, scale 1/sqrt(head_dim), rotary (halves)"."""

from collections.abc import Iterator

from attnkit.conformance.case import Case
from attnkit.conformance.probe import Probe

NEAR = 1e-3


def in_words(case: Case) -> str:
    """The facts of a case in words."""
    return ", ".join(_parts(case))


def _parts(case: Case) -> Iterator[str]:
    yield _pattern(case)
    probe, heads = case.facts.get("probe"), case.facts.get("num_heads")
    if heads and isinstance(probe, Probe):
        size = probe.widths["query"] // heads
        groups = probe.widths["key"] // size if probe.widths["key"] % size == 0 else heads
        yield f"{heads} head{'s' if heads > 1 else ''}" + (
            f" over {groups} of keys" if groups < heads else ""
        )
        if "scale" in case.facts:
            yield f"scale {_scale(case.facts['scale'], size)}"
    if case.facts.get("scores") == "normalised":
        yield "queries and keys normalised"
    if case.facts.get("softcap"):
        yield f"scores capped at {case.facts['softcap']:.3g}"
    if case.facts.get("normalised") is False:
        yield "weights that do not sum to one"
    yield from _positions(case)
    if "reference" in case.facts:
        yield f"compared with {case.facts['reference'].name}"


def _pattern(case: Case) -> str:
    pattern = case.facts.get("pattern")
    if case.declared.cross:
        return "reads a memory"
    if pattern:
        return str(pattern)
    return "causal" if case.declared.causal else "not causal"


def _scale(scale: float, size: int) -> str:
    names = {"1/sqrt(head_dim)": size**-0.5, "1": 1.0, "1/head_dim": 1 / size}
    near = [name for name, number in names.items() if abs(scale / number - 1) < NEAR]
    return near[0] if near else f"{scale:.4g}"


def _positions(case: Case) -> Iterator[str]:
    if case.facts.get("rotary"):
        yield f"rotary ({case.facts['rotary']})"
    elif "slopes" in case.facts:
        yield "ALiBi"
    elif case.facts.get("positions_found") == "bias":
        yield "a bias by place"
    elif case.facts.get("positions_found") == "turned":
        yield "scores that move with place"
    elif case.facts.get("ordered"):
        yield "positions of its own"
