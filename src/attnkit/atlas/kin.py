"""What mechanisms become: with which options one of them is another, and the map of all of them, as a tree in text.

    target
    `-- source    option=value      the source, with this option, is the target

A mechanism that becomes several others stands under each; what becomes of it is told at the first place alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnkit.mechanism import Mechanism

_FORK, _LAST = ("├── ", "│   "), ("└── ", "    ")


@dataclass(frozen=True)
class Reduction:
    """One mechanism that becomes another. Every one is a law, and tested.

    Attributes:
        source: what becomes the other, by name.
        target: the other, by name.
        options: what is set of the source.
        parts: the names of its tensors that have certain values.
        theirs: what is set of the target.
        rearranged: whether the target is given tensors that are made from those of the source.
    """

    source: str
    target: str
    options: Mapping[str, Any]
    parts: tuple[str, ...]
    theirs: Mapping[str, Any]
    rearranged: bool

    @property
    def condition(self) -> str:
        """When it holds, in a few words."""
        terms = [_told(self.options)] if self.options else []
        terms += [f"certain values of {', '.join(self.parts)}"] if self.parts else []
        terms += ["its tensors rearranged"] if self.rearranged else []
        there = f"; {self.target} has {_told(self.theirs)}" if self.theirs else ""
        return (", ".join(terms) or "as it is") + there


def reductions(mechanisms: Mapping[str, Mechanism]) -> tuple[Reduction, ...]:
    """Every law of the `mechanisms` that says what one becomes."""
    laws: list[tuple[str, Any]] = [(name, law) for name, own in mechanisms.items() for law in own.laws]
    return tuple(
        Reduction(name, law.target.name, law.options, tuple(law.parts), law.theirs, law.given is not None)
        for name, law in laws
        if hasattr(law, "target")
    )


def tree(found: Sequence[Reduction], names: Sequence[str]) -> str:
    """The map in text, and in its last line those of `names` that stand alone."""
    sources = {reduction.source for reduction in found}
    targets = {reduction.target for reduction in found}
    roots = [
        *sorted(targets - sources),
        *sorted(targets & sources),
    ]  # of those in a ring, the first is a root
    told: set[str] = set()
    blocks = [[(root, ""), *_below(root, found, told, "")] for root in roots if root not in told]
    column = max((len(left) for block in blocks for left, right in block if right), default=0) + 2
    lines = ["\n".join((left.ljust(column) + right).rstrip() for left, right in block) for block in blocks]
    alone = [name for name in names if name not in sources | targets]
    return "\n\n".join([*lines, *([f"alone: {', '.join(alone)}"] if alone else [])])


def _below(name: str, found: Sequence[Reduction], told: set[str], margin: str) -> list[tuple[str, str]]:
    """The lines under a target: what stands left, and the condition right of it."""
    told.add(name)
    branches: dict[str, list[str]] = {}
    for reduction in found:
        if reduction.target == name:
            branches.setdefault(reduction.source, []).append(reduction.condition)
    lines: list[tuple[str, str]] = []
    for source, conditions in branches.items():
        mark, indent = _LAST if source == list(branches)[-1] else _FORK
        again = source in told and any(reduction.target == source for reduction in found)
        lines.append((f"{margin}{mark}{source}{' (above)' if again else ''}", conditions[0]))
        lines += [(margin + indent, f"or {condition}") for condition in conditions[1:]]
        if source not in told:
            lines += _below(source, found, told, margin + indent)
    return lines


def _told(options: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in options.items()
    )
