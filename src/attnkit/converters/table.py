"""A mask read from a bool tensor. It knows its tiles from a table of sums, so that backends can skip the empty ones.

keep(q, k) = kept[..., q - q_start, k]
pairs kept in a rectangle = S[q_to, kv_to] - S[q_from, kv_to] - S[q_to, kv_from] + S[q_from, kv_from]

The sums take eight bytes a pair, eight times the tensor itself, and are made when a backend first asks for tiles.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attnkit.masks import Area, Mask


@dataclass(frozen=True, eq=False)
class Table(Mask):
    """Keeps what is True in `kept`. A position that the tensor does not reach is hidden.

    Attributes:
        kept: `*batch rows columns`, bool; one single row is for every query, one single column for every key.
        q_start: the position of the query that reads the first row.
    """

    kept: Tensor
    q_start: int = 0

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes of `kept` before its last two."""
        return tuple(self.kept.shape[:-2])

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The table of one sample."""
        return Table(self.kept[index], self.q_start) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the tensor is."""
        kept = self.kept.to(q_pos.device)
        rows, columns = kept.shape[-2:]
        row = torch.zeros_like(q_pos) if rows == 1 else q_pos - self.q_start
        column = torch.zeros_like(kv_pos) if columns == 1 else kv_pos
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        return kept[..., row.clamp(0, rows - 1), column.clamp(0, columns - 1)] & inside

    @cached_property
    def _sums(self) -> Tensor:
        """How many pairs are kept before each row and each column, flat: `*batch (rows + 1) * (columns + 1)`."""
        sums = self.kept.long().cumsum(-1).cumsum(-2)
        return torch.nn.functional.pad(sums, (1, 0, 1, 0)).flatten(-2)

    def some(self, area: Area) -> Tensor:
        """Whether a pair of its rectangle is kept."""
        return (self._count(area) > 0) & area.alive

    def every(self, area: Area) -> Tensor:
        """Whether each pair of its rectangle is kept."""
        size = (area.q_to - area.q_from).clamp(min=0) * (area.kv_to - area.kv_from).clamp(min=0)
        return (self._count(area) == size) | ~area.alive

    def _count(self, area: Area) -> Tensor:
        """How many pairs of a rectangle are kept; a single row or column counts once for each place it stands for."""
        rows, columns = self.kept.shape[-2:]
        top, bottom, once_a_row = _span(area.q_from, area.q_to, rows, self.q_start)
        left, right, once_a_column = _span(area.kv_from, area.kv_to, columns, 0)
        sums = self._sums.to(area.q_from.device)

        def before(row: Tensor, column: Tensor) -> Tensor:
            return _entries(sums, row * (columns + 1) + column)

        count = before(bottom, right) - before(top, right) - before(bottom, left) + before(top, left)
        return count * once_a_row * once_a_column

    def __repr__(self) -> str:
        return f"table(<{' x '.join(map(str, self.kept.shape))}>)"


def _span(start: Tensor, stop: Tensor, size: int, offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which part of an axis is met, and how often each entry counts."""
    if size == 1:
        return torch.zeros_like(start), torch.ones_like(stop), (stop - start).clamp(min=0)
    start, stop = (start - offset).clamp(0, size), (stop - offset).clamp(0, size)
    return start, stop.maximum(start), torch.ones_like(start)


def _entries(sums: Tensor, places: Tensor) -> Tensor:
    """`sums[..., places]`, where `places` (n,) may have the batch axes of the sums in front."""
    if places.dim() <= 1:
        return sums[..., places]
    return sums.expand(*places.shape[:-1], -1).gather(-1, places)
