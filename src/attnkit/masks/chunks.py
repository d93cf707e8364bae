"""Blocks of positions: each reads itself, or a few others that are drawn for it.

    blocks(n): q // n = k // n        random_blocks(n, count): k // n is one of `count` blocks drawn for q // n

The draws are a hash of the seed, the block and the draw, not of a generator: a query gets the same answer at any
length. So decoding a token and computing all at once agree.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area, spans
from attnkit.masks.mask import Mask
from attnkit.masks.plain import counted

Number = TypeVar("Number", int, Tensor)


@dataclass(frozen=True)
class Blocks(Mask):
    """A query reads the keys of its own block of `size` positions."""

    size: int

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both positions are in one block."""
        return q_pos // self.size == kv_pos // self.size

    def narrow(self, area: Area) -> Area:
        """No block that only one side has, and no distance as long as a block."""
        return area.within(
            q_from=_floor(area.kv_from, self.size),
            q_to=_floor(area.kv_to - 1, self.size) + self.size,
            kv_from=_floor(area.q_from, self.size),
            kv_to=_floor(area.q_to - 1, self.size) + self.size,
            near=1 - self.size,
            far=self.size - 1,
        )

    def narrow_hidden(self, area: Area) -> Area:
        """Nothing is hidden where all are in one block."""
        ends = (area.q_from, area.q_to - 1, area.kv_from, area.kv_to - 1)
        one, *others = (end // self.size for end in ends)
        return area.unless((one == others[0]) & (one == others[1]) & (one == others[2]))

    def cuts(self, length: int) -> Tensor:
        """Where a block begins."""
        return torch.arange(self.size, max(length, self.size), self.size)

    def __repr__(self) -> str:
        return f"blocks({self.size})"


@dataclass(frozen=True)
class RandomBlocks(Mask):
    """A query reads `count` blocks of `size` keys, drawn for its own block of `size` queries.

    They are drawn without repetition from its own block and those before it; from all blocks of `length` positions
    where that is given.
    """

    size: int
    count: int
    seed: int
    length: int | None = None

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key's block was drawn for the query's."""
        drawn, block = self._drawn(q_pos // self.size), kv_pos // self.size
        found = drawn[0] == block
        for other in drawn[1:]:
            found = found | (other == block)
        return found & (kv_pos >= 0)

    def _drawn(self, block: Tensor) -> list[Tensor]:
        """The blocks drawn for `block`, all different; below 0 where there are not so many.

        Floyd's way to draw without repetition: the i-th draw is from the first `among - count + i` and one more, and
        takes the last of them if what it hits was drawn before.
        """
        block = block.long()
        among = torch.full_like(block, self._blocks) if self.length is not None else block + 1
        drawn: list[Tensor] = []
        for draw in range(self.count):
            last = among - self.count + draw
            pick = _hashed(block, draw, self.seed) % (last + 1).clamp(min=1)
            for other in drawn:
                pick = torch.where(other == pick, last, pick)
            drawn.append(torch.where(among > self.count, pick, torch.where(draw < among, draw, -1)))
        return drawn

    @property
    def _blocks(self) -> int:
        return -(-(self.length or 0) // self.size)

    def narrow(self, area: Area) -> Area:
        """No key before the first; none after the query's block, or after all blocks."""
        if self.length is not None:
            return area.within(kv_from=0, kv_to=self._blocks * self.size)
        end = _floor(area.q_to - 1, self.size) + self.size
        return area.within(kv_from=0, kv_to=end, q_from=_floor(area.kv_from, self.size))

    def narrow_hidden(self, area: Area) -> Area:
        """Nothing is hidden where each block of queries drew all blocks of keys."""
        return area.unless(self._look(area, all_of_them=True))

    def some(self, area: Area) -> Tensor:
        """Whether a block of queries drew a block of keys."""
        area = self.narrow(area)
        return area.alive & self._look(area, all_of_them=False)

    def _look(self, area: Area, *, all_of_them: bool) -> Tensor:
        """Whether every block of queries drew every block of keys, or any drew any."""
        first, last = area.q_from // self.size, (area.q_to - 1) // self.size
        kv_first, kv_last = area.kv_from // self.size, (area.kv_to - 1) // self.size
        first, last, kv_first, kv_last, alive = torch.broadcast_tensors(
            first, last, kv_first, kv_last, area.alive
        )
        shape, places = alive.shape, alive.flatten().nonzero()[:, 0]
        first, last, low, high = (end.flatten()[places] for end in (first, last, kv_first, kv_last))
        owner, block = spans(first, last)
        hits = sum(((low[owner] <= drawn) & (drawn <= high[owner])).long() for drawn in self._drawn(block))
        wanted = (high - low + 1)[owner] if all_of_them else 1
        counts = torch.zeros_like(places).index_add(0, owner, (torch.as_tensor(hits) >= wanted).long())
        found = counts == last - first + 1 if all_of_them else counts > 0
        return torch.zeros_like(alive).flatten().index_put((places,), found).reshape(shape)

    def cuts(self, length: int) -> Tensor:
        """Where a block begins."""
        return Blocks(self.size).cuts(length)

    def __repr__(self) -> str:
        among = "" if self.length is None else f", length={self.length}"
        return f"random_blocks({self.size}, {self.count}, seed={self.seed}{among})"


def blocks(size: int) -> Blocks:
    """Keep keys of the query's own block of `size` positions; blocks begin at 0, `size`, 2 `size`, ...

    Raises:
        OptionError: `size` is no whole number from 1 upwards.

    Example:
        >>> blocks(2).dense(3, 3).int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    return Blocks(counted("blocks", "size", size))


def random_blocks(size: int, count: int, *, seed: int = 0, length: int | None = None) -> RandomBlocks:
    """Keep `count` blocks of `size` keys for each block of queries, drawn by a hash of `seed`, without repetition.

    They are drawn from the query's own block and those before it, so that an answer does not change as a text grows;
    the own block still holds keys after the query, so write `causal &` before it. With `length`, in tokens, they are
    drawn from all blocks of that length. A query with fewer blocks to draw from reads all of them.

    With `causal`, BigBird's pattern is `causal & (window(3 * size) | first(size) | random_blocks(size, 3))`.

    Raises:
        OptionError: `size`, `count` or `length` is no whole number from 1 upwards, or `seed` none from 0 upwards.

    Example:
        >>> mask = random_blocks(1, 2, seed=1)
        >>> mask.dense(5, 5).sum(-1).tolist()
        [1, 2, 2, 2, 2]

    Source: Zaheer et al. 2020, https://arxiv.org/abs/2007.14062, section 2 and appendix D (blocks).
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise OptionError(
            where="masks.random_blocks",
            what=f"seed is a whole number from 0 upwards; got {seed!r}",
            fix="seed=0; another number draws other blocks",
        )
    size, count = counted("random_blocks", "size", size), counted("random_blocks", "count", count)
    if length is not None:
        length = counted("random_blocks", "length", length)
    return RandomBlocks(size, count, seed, length)


def _floor(pos: Tensor, size: int) -> Tensor:
    return pos // size * size


def _hashed(block: Tensor, draw: int, seed: int) -> Tensor:
    """A number below 2 ** 32 that looks random: from whole numbers alone, so that every device draws the same."""
    return _mixed(block ^ _mixed(draw ^ _mixed(seed)))


def _mixed(number: Number) -> Number:
    # both factors stay below 2 ** 31: no product overflows int64
    number = number & 0xFFFFFFFF
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    return (number >> 16) ^ number
