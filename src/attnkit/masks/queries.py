"""Queries that read every key, wherever they stand.

    first_queries(n): q < n

It is `first(n)` with queries and keys exchanged. A token that everybody reads and that reads everybody, as Longformer's
and BigBird's global tokens, needs both: `first(n) | first_queries(n)`.
"""

from dataclasses import dataclass

from torch import Tensor

from attnkit.masks.area import Area
from attnkit.masks.mask import Mask
from attnkit.masks.plain import counted


@dataclass(frozen=True)
class FirstQueries(Mask):
    """The first `size` queries read every key, the others none."""

    size: int

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True for the first queries."""
        return q_pos < self.size

    def narrow(self, area: Area) -> Area:
        """No query after the first ones."""
        return area.within(q_to=self.size)

    def narrow_hidden(self, area: Area) -> Area:
        """Only queries after the first ones."""
        return area.within(q_from=self.size)

    def __repr__(self) -> str:
        return f"first_queries({self.size})"


def first_queries(size: int) -> FirstQueries:
    """Keep every key for the queries at the first `size` positions, in tokens, and none for the others.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.

    Example:
        >>> first_queries(1).dense(3, 3).int().tolist()
        [[1, 1, 1], [0, 0, 0], [0, 0, 0]]

    Source: Beltagy et al. 2020, https://arxiv.org/abs/2004.05150, section 3.1 (global attention is symmetric).
    """
    return FirstQueries(counted("first_queries", "size", size))
