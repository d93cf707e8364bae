"""Positions nearby, before and after: counted from the query, or from the segment that it stands in.

    segments(n, before, after): floor(q) - before <= k < floor(q) + n + after,   floor(q) = q // n * n
    band(n):                    -n < q - k < n

`segments(n)` is `blocks(n)`; a band is segments of one position. A band of n reads 2 n - 1 keys, its own position
counted: Longformer's `attention_window=w` reads w / 2 on each side, which is `band(w // 2 + 1)`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area
from attnkit.masks.mask import Mask
from attnkit.masks.plain import counted


@dataclass(frozen=True)
class Segments(Mask):
    """A query reads its own segment of `size` positions, `before` positions before it and `after` after it."""

    size: int
    before: int
    after: int

    @property
    def relative(self) -> bool:
        """It knows the distance alone where a segment is one position."""
        return self.size == 1

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True from `before` positions before the query's segment until `after` positions after it."""
        segment = q_pos // self.size * self.size
        return (kv_pos >= segment - self.before) & (kv_pos < segment + self.size + self.after)

    def narrow(self, area: Area) -> Area:
        """No key too far from all segments of queries, no segment too far from all keys, and no such distance."""
        return area.within(
            q_from=self._floor(area.kv_from - self.after),
            q_to=self._floor(area.kv_to - 1 + self.before) + self.size,
            kv_from=self._floor(area.q_from) - self.before,
            kv_to=self._floor(area.q_to - 1) + self.size + self.after,
            near=1 - self.size - self.after,
            far=self.size - 1 + self.before,
        )

    def narrow_hidden(self, area: Area) -> Area:
        """Only keys before what is read, or after it."""
        earlier = area.within(
            kv_to=self._floor(area.q_to - 1) - self.before,
            q_from=self._floor(area.kv_from + self.before) + self.size,
            near=self.before + 1,
        )
        later = area.within(
            kv_from=self._floor(area.q_from) + self.size + self.after,
            q_to=self._floor(area.kv_to - 1 - self.after),
            far=-1 - self.after,
        )
        return earlier.hull(later)

    def cuts(self, length: int) -> Tensor:
        """Where a segment begins; nowhere where each position is one."""
        if self.size == 1:
            return super().cuts(length)
        return torch.arange(self.size, max(length, self.size), self.size)

    def _floor(self, pos: Tensor) -> Tensor:
        return pos // self.size * self.size

    def __repr__(self) -> str:
        if self.size == 1 and self.before == self.after:
            return f"band({self.before + 1})"
        return f"segments({self.size}, before={self.before}, after={self.after})"


def segments(size: int, *, before: int = 0, after: int = 0) -> Segments:
    """Keep the query's own segment of `size` positions, `before` positions before it, and `after` positions after it.

    Segments begin at 0, `size`, 2 `size`, ... All of a segment's queries read the same keys, so with `causal` the first
    query of a segment reads `before` + 1 keys and the last one `before` + `size`.

    Args:
        size: positions of a segment, from 1 upwards.
        before: positions before a segment that it reads too, from 0 upwards.
        after: positions after it, from 0 upwards.

    Raises:
        OptionError: one of them is no such number.

    Example:
        >>> segments(2, before=1).dense(4, 4).int().tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1]]

    Source: Dai et al. 2019, https://arxiv.org/abs/1901.02860, section 3.2, where `before` is the memory.
    """
    size = counted("segments", "size", size)
    return Segments(size, _reach("before", before), _reach("after", after))


def band(size: int) -> Segments:
    """Keep keys fewer than `size` positions before or after the query, its own counted in `size`.

    With `causal` it is `causal & window(size)`.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.

    Example:
        >>> band(2).dense(3, 3).int().tolist()
        [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    size = counted("band", "size", size)
    return Segments(1, size - 1, size - 1)


def _reach(name: str, number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise OptionError(
            where="masks.segments",
            what=f"{name} is a whole number of positions from 0 upwards; got {number!r}",
            fix=f"{name}=0 stops at the segment's edge; {name}=size reads a whole segment more",
        )
    return number
