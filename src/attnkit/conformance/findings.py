"""What a check finds: a fault by its name, how large it is, how large it may be, and a sentence that says where."""

from dataclasses import asdict, dataclass, field
from typing import Any

from attnkit.conformance.faults import FAULTS


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        check: which check.
        fault: the name that this finding alone suggests.
        sentence: where and how, with the numbers.
        measured: how large it is.
        allowed: how large it may be.
        path: under which circumstances, such as "training" or "batch of one"; "" where it is so in any.
        data: what a diagnosis may need, numbers and words.
    """

    check: str
    fault: str
    sentence: str
    measured: float = float("nan")
    allowed: float = 0.0
    path: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.fault in FAULTS, self.fault

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return asdict(self)
