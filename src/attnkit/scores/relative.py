"""T5's relative position bias: a learned number for each head and each range of distances.

    bias(h, q, k) = table[bucket(k - q), h]

    bucket(d) = d                                                   for 0 <= d < e
                e + floor((n - e) * log(d / e) / log(max / e))      beyond, and n - 1 at most

with n buckets, the first e = n // 2 of them one distance each. T5 does not scale its scores: `Rule(scale=1.0, ...)`.
"""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.scores.step import Additive, check_num_heads
from attnkit.shapes import type_of


@dataclass(frozen=True, eq=False)
class RelativeBias(Additive):
    """A learned bias that grows coarser with distance. A layer owns the table; gradients reach it.

    Attributes:
        table: (num_buckets, num_heads), T5's `relative_attention_bias.weight`.
        bidirectional: gives keys after the query the second half of the buckets. Without it they all fall into
            bucket 0, with the query's own position: that is for `causal`, which hides them.
        max_distance: from this many tokens on, all keys share the last bucket.

    Raises:
        DtypeError: `table` holds no floats.
        ShapeError: `table` has not two axes; or at the call: the scores have another number of heads.
        OptionError: there are too few buckets, or `max_distance` lies among the first e.

    Example:
        >>> step = RelativeBias(torch.arange(8.0)[:, None], bidirectional=False, max_distance=16)
        >>> step.buckets(torch.tensor([0, -1, -3, -4, -8, -16, -99, 5])).tolist()
        [0, 1, 3, 4, 6, 7, 7, 0]

    Source: Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 2.1, and the released code.
    """

    table: Tensor
    _: KW_ONLY
    bidirectional: bool = True
    max_distance: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.table, Tensor) or not self.table.is_floating_point():
            raise DtypeError(
                where="RelativeBias",
                what=f"table must be a tensor of floats (num_buckets, num_heads); got {type_of(self.table)}",
                fix="table=torch.zeros(32, num_heads), or a layer's torch.nn.Parameter of that shape",
            )
        if self.table.dim() != 2:
            raise ShapeError(
                where="RelativeBias",
                what=f"table is (num_buckets, num_heads); got {tuple(self.table.shape)}",
                fix="table=torch.zeros(32, num_heads), one row for each bucket",
            )
        _check_buckets(self.table.shape[0], self.bidirectional, self.max_distance)

    def __repr__(self) -> str:
        told = f"table of {tuple(self.table.shape)}, bidirectional={self.bidirectional}"
        return f"RelativeBias({told}, max_distance={self.max_distance})"

    @property
    def relative(self) -> bool:
        """True: only distance and head count."""
        return True

    def parameters(self) -> tuple[Tensor, ...]:
        """The table."""
        return (self.table,)

    def buckets(self, distance: Tensor) -> Tensor:
        """The row of the table for each `distance`, which is `kv_pos - q_pos` in tokens."""
        count = self.table.shape[0] // 2 if self.bidirectional else self.table.shape[0]
        begins = torch.tensor(_begins(count, self.max_distance), device=distance.device)
        if not self.bidirectional:
            return torch.bucketize((-distance).clamp(min=0), begins, right=True)
        return torch.bucketize(distance.abs(), begins, right=True) + count * (distance > 0)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """The learned number of each head and distance, (heads, q_len, kv_len), in the table's dtype."""
        num_heads = self.table.shape[1]
        fix = f"a table of ({self.table.shape[0]}, {head.numel()}), one column for each query head"
        if self.table.shape[0] == head.numel():
            fix = f"table.mT if it is transposed; else {fix}"
        check_num_heads("RelativeBias", num_heads, head, fix)
        return self.table[self.buckets(kv_pos - q_pos), head]


def _begins(count: int, max_distance: int) -> list[int]:
    """The first distance of each bucket but bucket 0.

    The formula turned round, so that whole numbers are compared with whole numbers: no float32 logarithm
    decides on some devices that 16 is a little less than 16. Hence also the 1e-9.
    """
    exact = count // 2
    coarse = count - exact
    growth = max_distance / exact
    far = [math.ceil(exact * growth ** (step / coarse) - 1e-9) for step in range(1, coarse)]
    return [*range(1, exact + 1), *far]


def _check_buckets(num_buckets: int, bidirectional: bool, max_distance: int) -> None:
    sides = 2 if bidirectional else 1
    if num_buckets < 2 * sides or num_buckets % sides:
        raise OptionError(
            where="RelativeBias",
            what=f"a table of {num_buckets} buckets: with bidirectional={bidirectional} there are "
            + ("4, 6, 8, ..., half of them for keys after the query" if bidirectional else "2, 3, 4, ..."),
            fix="table=torch.zeros(32, num_heads), as in T5",
        )
    exact = num_buckets // sides // 2
    if not isinstance(max_distance, int) or isinstance(max_distance, bool) or max_distance <= exact:
        raise OptionError(
            where="RelativeBias",
            what=f"max_distance is a whole number of tokens above {exact}, up to where each distance "
            f"has a bucket of its own; got {max_distance!r}",
            fix="max_distance=128, as in T5",
        )
