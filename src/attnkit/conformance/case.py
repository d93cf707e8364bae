"""One run of all checks: the subject, what is said of it, and inputs that are peaked and of odd sizes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attnkit.conformance.declared import LEVELS, Declared
from attnkit.conformance.findings import Finding
from attnkit.conformance.subject import Subject

LENGTH, BATCH = 7, 3
# relative to the largest output; modules in float64 often hold tables or norms in float32
ROUNDING = 2e-6


class Skip(Exception):  # noqa: N818, it is no error
    """A check cannot be made; its text says why."""


@dataclass
class Case:
    """What a check is given.

    Attributes:
        subject: the target, copied in float64 and in evaluation mode.
        declared: what is said of it.
        facts: what earlier checks found out, by name, such as "weights" or "scale"; for later checks and the diagnosis.
        untouched: a copy that nothing has called: a call may leave something behind. Copy it again to call it.
    """

    subject: Subject
    declared: Declared
    facts: dict[str, Any] = field(default_factory=dict)
    untouched: Subject = field(init=False)

    def __post_init__(self) -> None:
        self.untouched = self.subject.copied()

    def generator(self, seed: int = 0) -> torch.Generator:
        """What to draw from; another for each seed."""
        return torch.Generator().manual_seed(1000 * self.declared.seed + seed)

    def tokens(self, batch: int = BATCH, length: int = LENGTH, *, seed: int = 0) -> Tensor:
        """Peaked tokens (batch, length, d_in): near-uniform weights would hide every fault."""
        shape = (batch, length, self.subject.d_in)
        return 3 * torch.randn(shape, generator=self.generator(seed), dtype=torch.float64)

    def memory(self, batch: int = BATCH, length: int = 5, *, seed: int = 0) -> Tensor | None:
        """Tokens of a memory, for a target that reads one and nothing else; None for self-attention."""
        if not self.declared.cross:
            return None
        shape = (batch, length, self.subject.memory_dim)
        return 3 * torch.randn(shape, generator=self.generator(500 + seed), dtype=torch.float64)

    def need(self, holds: object, reason: str) -> None:
        """Leave the check out where something does not hold.

        Raises:
            Skip: it does not.
        """
        if not holds:
            raise Skip(reason)

    def off(self, found: Tensor, wanted: Tensor) -> float:
        """The largest difference, as a part of the largest number wanted; infinite where only one is nan."""
        if found.shape != wanted.shape or bool((found.isnan() != wanted.isnan()).any()):
            return float("inf")
        if not wanted.numel():
            return 0.0
        size = wanted.nan_to_num().abs().max().item() or 1.0
        return (found - wanted).nan_to_num().abs().max().item() / size


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what it is called in reports and in `expected`.
        level: the lowest level that makes it.
        run: `(case)` to findings; raises `Skip` where it cannot be made.
        claim: what it checks, as a sentence that is true of right attention.
        lesson: where the tutorial teaches it.
        asks: what has to be declared for it to be made; "" for nothing.
    """

    name: str
    level: str
    run: Callable[[Case], Iterator[Finding]]
    claim: str
    lesson: str = ""
    asks: str = ""

    def is_asked(self, declared: Declared) -> bool:
        """Whether it is of the level that was said, and what it asks for was declared."""
        low = LEVELS.index(self.level) <= LEVELS.index(declared.level)
        return low and (not self.asks or getattr(declared, self.asks) is not None)
