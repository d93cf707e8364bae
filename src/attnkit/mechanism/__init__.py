"""What a mechanism is: a value at the end of one file, from which everything else about it follows."""

from attnkit.mechanism.bound import Bound, sizes_of
from attnkit.mechanism.mechanism import Law, Mechanism, Paper
from attnkit.mechanism.parts import Learned, Projected, Sizes, learned, projections
from attnkit.mechanism.signatures import Option
from attnkit.mechanism.written import kept, mixed, shared, turned

__all__ = [
    "Bound",
    "Law",
    "Learned",
    "Mechanism",
    "Option",
    "Paper",
    "Projected",
    "Sizes",
    "kept",
    "learned",
    "mixed",
    "projections",
    "shared",
    "sizes_of",
    "turned",
]
