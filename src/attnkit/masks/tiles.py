"""Tiles: which rectangles of a mask are empty, full or partial, found by looking at what is partial alone.

A square of 2 x 2 tiles is judged before the tiles in it, a square of 4 x 4 before that, and only what is neither
empty nor full is looked at closer. The cost follows what the mask keeps; no table of rows x columns is made.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area

if TYPE_CHECKING:
    from attnkit.masks.pattern import Pattern

EMPTY, PARTIAL, FULL = 0, 1, 2
_LARGEST_TABLE = 100_000_000


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles that a mask keeps, as runs of neighbours: all of one row, and all full or all partial.

    Attributes:
        q_edges: positions at which rows of tiles begin, and the end of the last (rows + 1,).
        kv_edges: the same for columns (columns + 1,).
        row: (runs,) the row of each run; runs are sorted by sample, then by row, then by start.
        start: (runs,) its first column.
        stop: (runs,) the column after its last.
        full: (runs,) whether every pair in it is kept; else some are.
        sample: (runs,) the sample of each run, counted through all axes of `batch`; 0 where samples don't differ.
        batch: the batch that the mask is for.
    """

    q_edges: Tensor
    kv_edges: Tensor
    row: Tensor
    start: Tensor
    stop: Tensor
    full: Tensor
    sample: Tensor = None  # pyright: ignore[reportAssignmentType]
    batch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.sample is None:
            object.__setattr__(self, "sample", torch.zeros_like(self.row))

    def __repr__(self) -> str:
        counts = f"{self.num_full:,} full, {self.num_partial:,} partial, {self.num_empty:,} empty"
        samples = f", batch={self.batch}" if self.batch else ""
        return f"Tiles({self.num_rows:,} x {self.num_columns:,}: {counts}{samples})"

    @property
    def num_rows(self) -> int:
        """How many rows of tiles."""
        return self.q_edges.numel() - 1

    @property
    def num_columns(self) -> int:
        """How many columns of tiles."""
        return self.kv_edges.numel() - 1

    @property
    def num_tiles(self) -> int:
        """How many tiles there are, in all samples."""
        return torch.Size(self.batch).numel() * self.num_rows * self.num_columns

    @property
    def num_full(self) -> int:
        """How many tiles have every pair kept."""
        return int(((self.stop - self.start) * self.full).sum())

    @property
    def num_partial(self) -> int:
        """How many tiles have some pairs kept, as far as the mask can tell."""
        return int((self.stop - self.start).sum()) - self.num_full

    @property
    def num_empty(self) -> int:
        """How many tiles have no pair kept."""
        return self.num_tiles - self.num_full - self.num_partial

    @property
    def kept_share(self) -> tuple[float, float]:
        """The share of all pairs that is kept, at least and at most: full tiles alone, partial ones too."""
        pairs = torch.diff(self.q_edges)[self.row] * (self.kv_edges[self.stop] - self.kv_edges[self.start])
        q_len, kv_len = (int(edges[-1] - edges[0]) for edges in (self.q_edges, self.kv_edges))
        total = max(torch.Size(self.batch).numel() * q_len * kv_len, 1)
        return int(pairs[self.full].sum()) / total, int(pairs.sum()) / total

    def of(self, index: tuple[int, ...]) -> "Tiles":
        """The tiles of one sample of the batch."""
        number = 0
        for size, place in zip(self.batch, index, strict=True):
            number = number * size + place
        own = self.sample == number
        row, start, stop, full = self.row[own], self.start[own], self.stop[own], self.full[own]
        return Tiles(self.q_edges, self.kv_edges, row, start, stop, full)

    def table(self) -> Tensor:
        """The state of each tile, int8 `*batch rows columns`: 0 EMPTY, 1 PARTIAL, 2 FULL.

        Raises:
            OptionError: it would have more than 100,000,000 entries.
        """
        if self.num_tiles > _LARGEST_TABLE:
            raise OptionError(
                where="Tiles.table",
                what=f"{self.num_tiles:,} tiles are more than the {_LARGEST_TABLE:,} that a table may have",
                fix="read the runs: row, start, stop, full; or ask for larger tiles, for instance tile=1024",
            )
        columns = self.num_columns
        steps = torch.zeros(
            self.num_tiles // max(columns, 1), columns + 1, dtype=torch.int8, device=self.row.device
        )
        line, state = self.sample * self.num_rows + self.row, (1 + self.full).to(torch.int8)
        steps.index_put_((line, self.start), state, accumulate=True)
        steps.index_put_((line, self.stop), -state, accumulate=True)
        table = steps.cumsum(-1, dtype=torch.int8)[:, :columns]
        return table.reshape(*self.batch, self.num_rows, columns)


def tiled(
    mask: "Pattern", q_len: int, kv_len: int, *, tile: int | tuple[int, int], q_start: int | None
) -> Tiles:
    """The tiles of each sample, with edges every `tile` positions from the first query and from the first key.

    Raises:
        OptionError: a number means nothing.
    """
    check_lengths("Mask.tiles", q_len, kv_len, q_start)
    q_tile, kv_tile = tile if isinstance(tile, tuple) and len(tile) == 2 else (tile, tile)
    if not all(_whole(size) and size > 0 for size in (q_tile, kv_tile)):
        raise OptionError(
            where="Mask.tiles",
            what=f"tile counts positions, so it is a whole number from 1 upwards or two of them; got {tile!r}",
            fix="tile=128, or tile=(128, 64) for 128 queries and 64 keys",
        )
    start = kv_len - q_len if q_start is None else q_start
    q_edges, kv_edges = start + edges(q_len, int(q_tile)), edges(kv_len, int(kv_tile))
    samples = list(itertools.product(*map(range, mask.batch)))
    parts = [refine(mask.sample(index), q_edges, kv_edges) for index in samples]
    numbers = [torch.full_like(part.row, number) for number, part in enumerate(parts)]
    none = torch.zeros(0, dtype=torch.int64)
    row, start, stop = (
        torch.cat([none, *(getattr(p, name) for p in parts)]) for name in ("row", "start", "stop")
    )
    full = torch.cat([none.bool(), *(part.full for part in parts)])
    return Tiles(q_edges, kv_edges, row, start, stop, full, torch.cat([none, *numbers]), mask.batch)


def edges(length: int, tile: int) -> Tensor:
    """Where tiles of `tile` positions begin, and the end of the last."""
    starts = torch.arange(0, length, tile)
    return torch.cat([starts, starts.new_tensor([length])])


def check_lengths(where: str, q_len: object, kv_len: object, q_start: object) -> None:
    """Refuse numbers of queries and keys that mean nothing.

    Raises:
        OptionError: one is no whole number, or below 0.
    """
    for name, number in (("q_len", q_len), ("kv_len", kv_len)):
        if not _whole(number) or number < 0:
            raise OptionError(
                where=where,
                what=f"{name} is a whole number from 0 upwards; got {number!r}",
                fix=f"{name}=1024; a number of NumPy or a tensor becomes one by int({name})",
            )
    if q_start is not None and not _whole(q_start):
        raise OptionError(
            where=where,
            what=f"q_start is the position of the first query, a whole number; got {q_start!r}",
            fix="q_start=0, or leave it out: the last query then stands at the last key",
        )


def _whole(number: object) -> TypeGuard[int]:
    # a length that torch.export does not know is no int, and counts all the same
    return isinstance(number, int | torch.SymInt) and not isinstance(number, bool)


def refine(mask: "Pattern", q_edges: Tensor, kv_edges: Tensor) -> Tiles:
    """The tiles between the edges (int64, rising) that `mask` keeps; where samples differ, that any of them keeps."""
    rows, columns = q_edges.numel() - 1, kv_edges.numel() - 1
    size = 1 << max(rows - 1, columns - 1, 0).bit_length()
    row = column = torch.zeros(int(rows > 0 and columns > 0), dtype=torch.int64, device=q_edges.device)
    found: list[Tensor] = []
    while True:
        some, every = _judge(mask, q_edges, kv_edges, row, column, size)
        done = some & every if size > 1 else some
        found.append(_runs(row[done], column[done], every[done], size, rows, columns))
        if size == 1:
            return _merged(q_edges, kv_edges, torch.cat(found, dim=1))
        row, column = _quarters(row[some & ~every], column[some & ~every], size // 2, rows, columns)
        size //= 2


def _judge(
    mask: "Pattern", q_edges: Tensor, kv_edges: Tensor, row: Tensor, column: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    last_row, last_column = q_edges.numel() - 1, kv_edges.numel() - 1
    area = Area(
        q_edges[row],
        q_edges[(row + size).clamp(max=last_row)],
        kv_edges[column],
        kv_edges[(column + size).clamp(max=last_column)],
    )
    some, every = mask.over(area)
    shape = (1, *torch.broadcast_shapes(some.shape, every.shape)[:-1], row.numel())  # 1: at least one sample
    some, every = some.expand(shape), every.expand(shape)
    return some.flatten(0, -2).any(0), every.flatten(0, -2).all(0)


def _quarters(row: Tensor, column: Tensor, half: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    down = torch.tensor([0, 0, half, half], device=row.device)
    right = torch.tensor([0, half, 0, half], device=row.device)
    row, column = (row[:, None] + down).flatten(), (column[:, None] + right).flatten()
    inside = (row < rows) & (column < columns)
    return row[inside], column[inside]


def _runs(row: Tensor, column: Tensor, full: Tensor, size: int, rows: int, columns: int) -> Tensor:
    """A square of `size` tiles as one run in each of its rows: (4, runs) of row, start, stop, full."""
    each_row = (row[:, None] + torch.arange(size, device=row.device)).flatten()
    start, full = column.repeat_interleave(size), full.long().repeat_interleave(size)
    runs = torch.stack([each_row, start, (start + size).clamp(max=columns), full])
    return runs[:, each_row < rows]


def _merged(q_edges: Tensor, kv_edges: Tensor, runs: Tensor) -> Tiles:
    """Runs sorted, and touching ones of one kind made one."""
    runs = runs[:, torch.argsort(runs[0] * kv_edges.numel() + runs[1])]
    row, start, stop, full = runs
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (start[1:] != stop[:-1]) | (full[1:] != full[:-1])
    last = torch.ones_like(new)
    last[:-1] = new[1:]
    return Tiles(q_edges, kv_edges, row[new], start[new], stop[last], full[new].bool())
