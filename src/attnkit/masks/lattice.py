"""Grids of tokens that stand row after row, such as the patches of an image: a line of a grid, or a neighbourhood.

    along(grid, axis):      q_i = k_i on every axis i but `axis`
    neighborhood(grid, w):  start(q_i) <= k_i < start(q_i) + w_i on every axis i
                            start(x) = clamp(x - w // 2, 0, n - w)

At the border of the grid a window is shifted, not cut: a corner reads as many keys as the middle. So the window of a
border token does not lie around it, and a mask of `|q - k|` is another one. Positions outside of the grid read nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area
from attnkit.masks.chunks import blocks
from attnkit.masks.mask import Mask
from attnkit.masks.plain import strided


class Box(NamedTuple):
    """Cells from `low` to `high` on each axis, both included; many at once, and real only where `there`."""

    low: tuple[Tensor, ...]
    high: tuple[Tensor, ...]
    there: Tensor


@dataclass(frozen=True)
class Neighborhood(Mask):
    """A query reads a box of `window` cells of a `grid`, as near to being around it as the border allows."""

    grid: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def known_positions(self) -> int:
        """One for each cell."""
        return prod(self.grid)

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key's cell is in the query's window on every axis."""
        kept = self._inside(q_pos) & self._inside(kv_pos)
        for axis, (q, k) in enumerate(zip(self._cells(q_pos), self._cells(kv_pos), strict=True)):
            start = self._start(axis, q)
            kept = kept & (start <= k) & (k < start + self.window[axis])
        return kept

    def _inside(self, pos: Tensor) -> Tensor:
        return (pos >= 0) & (pos < prod(self.grid))

    def _cells(self, pos: Tensor) -> list[Tensor]:
        """The coordinate on each axis."""
        return [pos // step % count for step, count in zip(self._steps, self.grid, strict=True)]

    @property
    def _steps(self) -> list[int]:
        """How many positions lie between two neighbours on each axis."""
        return [prod(self.grid[axis + 1 :]) for axis in range(len(self.grid))]

    def _start(self, axis: int, cell: Tensor) -> Tensor:
        """Where the window of a cell begins."""
        count, size = self.grid[axis], self.window[axis]
        return (cell - size // 2).clamp(min=0).clamp(max=count - size)

    def narrow(self, area: Area) -> Area:
        """From the first to the last key that a query reads, and from the first to the last query that reads a key."""
        total = prod(self.grid)
        area = area.within(q_from=0, q_to=total, kv_from=0, kv_to=total)
        q_boxes = self._boxes(area.q_from, area.q_to - 1)
        kv_boxes = self._boxes(area.kv_from, area.kv_to - 1)
        kv_from, kv_to = self._ends(Box(*self._read(box), box.there) for box in q_boxes)
        q_from, q_to = self._ends(Box(*self._readers(box), box.there) for box in kv_boxes)
        return area.within(q_from=q_from, q_to=q_to, kv_from=kv_from, kv_to=kv_to)

    def narrow_hidden(self, area: Area) -> Area:
        """Nothing is hidden where every window holds every key."""
        inside = (area.q_from >= 0) & (area.q_to <= prod(self.grid))
        inside = inside & (area.kv_from >= 0) & (area.kv_to <= prod(self.grid))
        return area.unless(inside & self._look(area, all_of_them=True))

    def some(self, area: Area) -> Tensor:
        """Whether a window holds a key."""
        area = self.narrow(area)
        return area.alive & self._look(area, all_of_them=False)

    def _look(self, area: Area, *, all_of_them: bool) -> Tensor:
        """Whether every window holds every key, or any holds any: box by box, since axes then answer apart."""
        q_boxes = self._boxes(area.q_from, area.q_to - 1)
        kv_boxes = self._boxes(area.kv_from, area.kv_to - 1)
        found = area.anywhere if all_of_them else ~area.anywhere
        for queries, keys in product(q_boxes, kv_boxes):
            there, held = queries.there & keys.there, area.anywhere
            for axis in range(len(self.grid)):
                first, last = (self._start(axis, end[axis]) for end in (queries.low, queries.high))
                first, last = (last, first) if all_of_them else (first, last)
                low, high = keys.low[axis], keys.high[axis]
                low, high = (low, high) if all_of_them else (high, low)
                held = held & (first <= low) & (high < last + self.window[axis])
            found = found & (held | ~there) if all_of_them else found | (held & there)
        return found

    def _read(self, box: Box) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The first and the last key on each axis that a box of queries reads."""
        low = tuple(self._start(axis, cell) for axis, cell in enumerate(box.low))
        high = tuple(self._start(axis, cell) + self.window[axis] - 1 for axis, cell in enumerate(box.high))
        return low, high

    def _readers(self, box: Box) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The first and the last query on each axis that reads a box of keys."""
        low, high = [], []
        for axis, (count, size) in enumerate(zip(self.grid, self.window, strict=True)):
            first, last = box.low[axis] - size + 1, box.high[axis]
            low.append(torch.where(first <= 0, 0, first + size // 2))
            high.append(torch.where(last >= count - size, count - 1, last + size // 2))
        return tuple(low), tuple(high)

    def _ends(self, boxes: Iterable[Box]) -> tuple[Tensor, Tensor]:
        """The first position of any box, and one past the last."""
        far, steps, starts, stops = prod(self.grid), self._steps, [], []
        for low, high, there in boxes:
            first = sum((cell * step for cell, step in zip(low, steps, strict=True)), torch.tensor(0))
            last = sum((cell * step for cell, step in zip(high, steps, strict=True)), torch.tensor(0))
            starts.append(torch.where(there, first, far))
            stops.append(torch.where(there, last + 1, 0))
        return reduce(torch.minimum, starts), reduce(torch.maximum, stops)

    def _boxes(self, first: Tensor, last: Tensor) -> list[Box]:
        """The positions from `first` to `last`, both in the grid, as boxes.

        What lies between the two on the first axis where they differ is a box; on each later axis, what comes after
        `first` beside it, and what comes before `last` beside that.
        """
        begin, end, deepest = self._cells(first), self._cells(last), len(self.grid) - 1
        same, found = first <= last, []
        for axis, count in enumerate(self.grid):
            own = 0 if axis == deepest else 1  # the last axis has the two positions themselves
            apart = begin[axis] != end[axis] if axis < deepest else torch.ones_like(same)
            split = (first <= last) & ~same  # on an axis before this one
            after, before = begin[axis] + own, end[axis] - own
            found.append(self._box(begin[:axis], after, before, same & apart))
            found.append(self._box(begin[:axis], after, torch.full_like(after, count - 1), split))
            found.append(self._box(end[:axis], torch.zeros_like(before), before, split))
            same = same & ~apart
        return found

    def _box(self, before: Sequence[Tensor], low: Tensor, high: Tensor, there: Tensor) -> Box:
        """One cell on the axes before, from `low` to `high` on the next, and all on the others."""
        rest = self.grid[len(before) + 1 :]
        lows = (*before, low, *(torch.zeros_like(low) for _ in rest))
        highs = (*before, high, *(torch.full_like(high, count - 1) for count in rest))
        return Box(lows, highs, there & (low <= high))

    def __repr__(self) -> str:
        return f"neighborhood({self.grid}, {self.window})"


_GRID = "grid=(height, width) and window=(7, 7), one number an axis, for tokens that stand row after row"


def neighborhood(grid: Sequence[int], window: Sequence[int]) -> Neighborhood:
    """Keep the `window` of cells around the query in a `grid`; at the border the window is shifted to stay inside.

    Position p is cell (p // width, p % width) of a grid (height, width), and so on for more axes. On an axis whose
    window is 1 a query reads its own cell alone; where the window is the whole axis, all of it.

    Args:
        grid: cells on each axis, the slowest first.
        window: cells that are read on each axis, at most those of the grid. Even ones reach one more to the front.

    Raises:
        OptionError: they are not one whole number for each axis, or a window is larger than its axis.

    Example:
        >>> neighborhood((1, 5), (1, 3)).dense(5, 5).int().tolist()
        [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]

    Source: Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.
    """
    cells, sizes = axes_of("neighborhood", "grid", grid), axes_of("neighborhood", "window", window)
    if len(cells) != len(sizes):
        raise OptionError(
            where="masks.neighborhood",
            what=f"grid {cells} has {len(cells)} axes, window {sizes} has {len(sizes)}",
            fix=_GRID,
        )
    for count, size in zip(cells, sizes, strict=True):
        if size > count:
            raise OptionError(
                where="masks.neighborhood",
                what=f"a window is at most as long as its axis; got window {sizes} for grid {cells}",
                fix=f"window={tuple(min(pair) for pair in zip(cells, sizes, strict=True))}",
            )
    return Neighborhood(cells, sizes)


def along(grid: Sequence[int], axis: int) -> Mask:
    """Keep the cells of a `grid` that differ from the query's on one axis alone; its own is among them.

    Tokens after the last cell are cells of the next grid. Along the last axis it is `blocks` of one row; along the
    first axis of one grid it is `strided`.

    Args:
        grid: cells on each axis, the slowest first.
        axis: counted from 0.

    Raises:
        OptionError: `grid` has not one whole number for each axis, or there is no such axis.

    Example:
        >>> along((2, 3), 0).dense(1, 6, q_start=1).int().tolist()
        [[0, 1, 0, 0, 1, 0]]

    Source: Ho et al. 2019, https://arxiv.org/abs/1912.12180, section 3.1.
    """
    cells = axes_of("along", "grid", grid)
    if isinstance(axis, bool) or not isinstance(axis, int) or not 0 <= axis < len(cells):
        raise OptionError(
            where="masks.along",
            what=f"axis is one of the {len(cells)} axes of grid {cells}, counted from 0; got {axis!r}",
            fix=f"axis={len(cells) - 1} is along the row, axis=0 from the first row to the last",
        )
    step = prod(cells[axis + 1 :])
    line = blocks(step * cells[axis])
    return line & strided(step) if step > 1 else line


def axes_of(where: str, name: str, numbers: object) -> tuple[int, ...]:
    """The whole numbers from 1 upwards, one an axis.

    Raises:
        OptionError: they are not that.
    """
    listed = tuple(numbers) if isinstance(numbers, Sequence) else ()
    if not listed or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in listed):
        raise OptionError(
            where=f"masks.{where}",
            what=f"{name} has one whole number from 1 upwards for each axis; got {numbers!r}",
            fix=_GRID,
        )
    return listed
