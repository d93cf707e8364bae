"""Drawings of masks: which query reads which key, at any length, as text and as a picture.

Up to 32 queries and 32 keys have a mark a pair. More of them share cells: what is drawn as nothing kept, or as all
kept, is so for every pair of the cell.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnkit.errors import OptionError
from attnkit.masks.grid import Grid, cells, measured
from attnkit.masks.svg import picture
from attnkit.masks.tiles import check_lengths

if TYPE_CHECKING:
    from attnkit.masks.pattern import Pattern

_PAIRS_UP_TO = 32
_SAMPLES_UP_TO = 4
_ROWS, _COLUMNS = 32, 64
_SQUARES = 64
_HIDDEN, _KEPT = "·", "■"
_SHADES = "░▒▓"
_ALL = "█"


@dataclass(frozen=True, repr=False)
class Drawing:
    """A mask on some queries and keys: `str` draws it in text, a notebook shows a picture.

    Attributes:
        mask: what is drawn.
        q_len: how many queries.
        kv_len: how many keys.
        q_start: the position of the first query.
        samples: which samples of the batch; one () where they don't differ.
    """

    mask: "Pattern"
    q_len: int
    kv_len: int
    q_start: int
    samples: tuple[tuple[int, ...], ...]

    @property
    def marks_pairs(self) -> bool:
        """Whether each pair has its own mark."""
        return max(self.q_len, self.kv_len) <= _PAIRS_UP_TO

    def grid(self, sample: tuple[int, ...], *, rows: int, columns: int) -> Grid:
        """The cells of one sample, at most `rows` x `columns` of them."""
        q_edges, kv_edges = self.q_start + cells(self.q_len, rows), cells(self.kv_len, columns)
        return measured(self.mask.sample(sample), q_edges, kv_edges)

    def __str__(self) -> str:
        rows, columns = (_PAIRS_UP_TO, _PAIRS_UP_TO) if self.marks_pairs else (_ROWS, _COLUMNS)
        queries, keys = counted(self.q_len, "query", "queries"), counted(self.kv_len, "key", "keys")
        lines = [f"{self.mask!r}: {queries} down, {keys} across"]
        for sample in self.samples:
            grid = self.grid(sample, rows=rows, columns=columns)
            lines += [self._title(sample, grid), "", *_text(grid, self.marks_pairs), ""]
            if sample == self.samples[-1] and not grid.one_pair_each:
                lines += [f"{grid.cell_size}; kept of it: {_HIDDEN} none, {_SHADES} some, {_ALL} all"]
        return "\n".join([*lines, *self._left_out]).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        grids = [self.grid(sample, rows=_SQUARES, columns=_SQUARES) for sample in self.samples]
        titled = [(self._title(sample, grid), grid) for sample, grid in zip(self.samples, grids, strict=True)]
        queries, keys = counted(self.q_len, "query", "queries"), counted(self.kv_len, "key", "keys")
        return picture(f"{self.mask!r}: {queries}, {keys}", titled, self._left_out)

    def _title(self, sample: tuple[int, ...], grid: Grid) -> str:
        name = f"sample {', '.join(map(str, sample))}: " if sample else ""
        return f"{name}keeps {_kept(grid, self.q_len * self.kv_len)}"

    @property
    def _left_out(self) -> list[str]:
        more = math.prod(self.mask.batch) - _SAMPLES_UP_TO
        if len(self.samples) < _SAMPLES_UP_TO or more < 1:
            return []
        return [f"{more:,} more of the batch {self.mask.batch}: choose with sample="]


def drawn(
    mask: "Pattern", q_len: int, kv_len: int, *, q_start: int | None, sample: int | tuple[int, ...] | None
) -> Drawing:
    """The drawing of a mask; of the first few samples where none is chosen.

    Raises:
        OptionError: a number means nothing, or there is no such sample.
    """
    check_lengths("Mask.show", q_len, kv_len, q_start)
    start = kv_len - q_len if q_start is None else q_start
    every = itertools.product(*map(range, mask.batch))
    if sample is None:
        return Drawing(mask, q_len, kv_len, start, tuple(itertools.islice(every, _SAMPLES_UP_TO)))
    index = sample if isinstance(sample, tuple) else (sample,)
    if index not in set(every):
        raise OptionError(
            where="Mask.show",
            what=f"sample is one of the batch {mask.batch}, counted from 0; got {sample!r}",
            fix=f"sample={_first_of(mask.batch)}" if mask.batch else "leave it out: samples don't differ",
        )
    return Drawing(mask, q_len, kv_len, start, (index,))


def _first_of(batch: tuple[int, ...]) -> object:
    return 0 if len(batch) == 1 else (0,) * len(batch)


def _kept(grid: Grid, total: int) -> str:
    least, most = grid.kept
    if not total:
        return "nothing: there are no pairs"
    if least == most:
        return f"{round(least * total):,} of {total:,} pairs ({_percent(least)})"
    if _percent(least) == _percent(most):
        return f"{_percent(least)} of the pairs"
    about = _percent(float((grid.share * grid.sizes).sum()) / total)
    if (least, most) == (0.0, 1.0):
        return f"about {about} of the pairs, going by a few of them"
    return f"about {about} of the pairs (from {_percent(least)} to {_percent(most)})"


def _percent(share: float) -> str:
    """Two digits that count, and 100 only where all is meant."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    digits = max(1 - math.floor(math.log10(share * 100)), 0)
    if round(share * 100, digits) >= 100:
        return "almost 100 %"
    return f"{share * 100:.{digits}f} %"


def _text(grid: Grid, pairs: bool) -> list[str]:
    """Rows of marks with the positions they begin at; keys are told above."""
    if not grid.share.numel():
        return []
    step, every = (2, 1) if pairs else (1, 4)
    names = [f"{int(position):,}" for position in grid.q_edges[:-1]]
    margin = max(map(len, names), default=0) + 2
    apart = 4 if pairs else 16
    ticks = [f"{int(position):,}" for position in grid.kv_edges[:-1:apart]]
    lines = [" " * margin + "".join(tick.ljust(apart * step) for tick in ticks).rstrip()]
    for number, (name, row) in enumerate(zip(names, _marks(grid, pairs), strict=True)):
        label = name if number % every == 0 else ""
        lines.append(label.rjust(margin - 2) + "  " + (" " if pairs else "").join(row))
    return lines


def _marks(grid: Grid, pairs: bool) -> list[str]:
    shades = (grid.share * len(_SHADES)).long().clamp(0, len(_SHADES) - 1)
    marks = [[_SHADES[shade] for shade in row] for row in shades.tolist()]
    for row, empty, full in zip(marks, grid.empty.tolist(), grid.full.tolist(), strict=True):
        for place in range(len(row)):
            row[place] = (
                _HIDDEN if empty[place] else (_KEPT if pairs else _ALL) if full[place] else row[place]
            )
    return ["".join(row) for row in marks]


def counted(number: int, one: str, many: str) -> str:
    """A number and the word for what it counts."""
    return f"{number:,} {one if number == 1 else many}"
