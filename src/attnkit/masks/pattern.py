"""What a pattern of kept pairs answers: for pairs of positions, for whole areas of them, and for each sample.

    some(area)  = a pair of it is kept             narrow(area)        holds every kept pair
    every(area) = no pair of it is hidden          narrow_hidden(area) holds every hidden pair

A pattern that gives only `keep` is right, and PARTIAL everywhere. One whose kept pairs, and whose hidden pairs, fill an
area gives the two `narrow`s, and its answers are exact.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from attnkit.masks.area import Area, Cover
from attnkit.masks.drawing import Drawing, drawn
from attnkit.masks.tiles import Tiles, check_lengths, tiled
from attnkit.shapes import Keep


class Pattern(ABC):
    """What masks answer. Positions are whole numbers; keys begin at 0, queries may stand before that."""

    @abstractmethod
    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """Whether a query at `q_pos` may read a key at `kv_pos`.

        Positions are whole numbers of any shapes that broadcast. The answer is bool and broadcasts to their
        common shape; where samples differ, batch axes stand in front of it.
        """

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch that the mask is for; () where it is the same for every sample."""
        return ()

    @property
    def relative(self) -> bool:
        """Whether `keep` depends on `q_pos - kv_pos` alone; False where that is not known."""
        return False

    @property
    def known_positions(self) -> int | None:
        """How many positions, from 0 on, the mask was told of; None where it knows all."""
        return None

    def sample(self, index: tuple[int, ...]) -> "Pattern":
        """The pattern of one sample of the batch: `index` has a number for each batch axis."""
        return self

    def narrow(self, area: Area) -> Area:
        """Smaller areas that hold every kept pair of the given ones."""
        return area

    def narrow_hidden(self, area: Area) -> Area:
        """Smaller areas that hold every hidden pair of the given ones."""
        return area

    def some(self, area: Area) -> Tensor:
        """Whether a pair of each area is kept. True may be said in vain, False never."""
        return self.narrow(area).alive

    def every(self, area: Area) -> Tensor:
        """Whether each pair of each area is kept; so it is where there is none. False may be said in vain."""
        return ~self.narrow_hidden(area).alive

    def over(self, area: Area) -> Cover:
        """Whether some pair, and every pair, of whole areas is kept."""
        return Cover(self.some(area), self.every(area))

    def cuts(self, length: int) -> Tensor:
        """Positions from 1 to `length - 1` (n,), rising, where the pattern starts anew, as tiles had better do."""
        return torch.empty(0, dtype=torch.int64)

    def dense(
        self, q_len: int, kv_len: int, *, q_start: int | None = None, device: torch.device | None = None
    ) -> Keep:
        """The mask written out, `*batch q_len kv_len`, True keeps.

        Args:
            q_len: how many queries.
            kv_len: how many keys, at positions 0 to kv_len - 1.
            q_start: the position of the first query; `kv_len - q_len` when not given.
            device: where the result lives.

        Raises:
            OptionError: a number means nothing.

        Example:
            >>> from attnkit import masks
            >>> masks.causal.dense(2, 3).int().tolist()
            [[1, 1, 0], [1, 1, 1]]
        """
        check_lengths("Mask.dense", q_len, kv_len, q_start)
        start = kv_len - q_len if q_start is None else q_start
        q_pos = torch.arange(start, start + q_len, device=device)
        return self.at(q_pos, kv_len)

    def at(self, q_pos: Tensor, kv_len: int) -> Keep:
        """The rows of the queries at `q_pos` (q_len,), written out: `*batch q_len kv_len`."""
        kv_pos = torch.arange(kv_len, device=q_pos.device)
        keep = self.keep(q_pos[:, None], kv_pos[None, :])
        return keep.expand(*keep.shape[:-2], q_pos.shape[0], kv_len)

    def tiles(
        self, q_len: int, kv_len: int, *, tile: int | tuple[int, int] = 128, q_start: int | None = None
    ) -> Tiles:
        """Which tiles are empty, full or partial, found without writing the mask out.

        Args:
            q_len: how many queries.
            kv_len: how many keys.
            tile: how many queries and keys a tile has, or one number for both; the last ones may have fewer.
            q_start: the position of the first query, where the first tile begins; `kv_len - q_len` when not given.

        Raises:
            OptionError: a number means nothing.

        Example:
            >>> from attnkit import masks
            >>> masks.causal.tiles(6, 6, tile=2).table().tolist()
            [[1, 0, 0], [2, 1, 0], [2, 2, 1]]
        """
        return tiled(self, q_len, kv_len, tile=tile, q_start=q_start)

    def show(
        self,
        q_len: int,
        kv_len: int,
        *,
        q_start: int | None = None,
        sample: int | tuple[int, ...] | None = None,
    ) -> Drawing:
        """A drawing of the mask at any length: text where it is printed, a picture where a notebook shows it.

        Args:
            q_len: how many queries; up to 32 of them and 32 keys have a mark a pair, more share cells.
            kv_len: how many keys.
            q_start: the position of the first query; `kv_len - q_len` when not given.
            sample: which sample of the batch; the first four when not given.

        Raises:
            OptionError: a number means nothing, or there is no such sample.

        Example:
            >>> from attnkit import masks
            >>> print(masks.causal.show(2, 3))
            causal: 2 queries down, 3 keys across
            keeps 5 of 6 pairs (83 %)
            <BLANKLINE>
               0
            1  ■ ■ ·
            2  ■ ■ ■
        """
        return drawn(self, q_len, kv_len, q_start=q_start, sample=sample)
