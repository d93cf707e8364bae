"""Masks that are the same for every sample and know positions as numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area, Cover
from attnkit.masks.mask import Mask


@dataclass(frozen=True)
class Full(Mask):
    """Every query reads every key."""

    @property
    def relative(self) -> bool:
        """It knows nothing of positions."""
        return True

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True everywhere."""
        return torch.ones_like(kv_pos, dtype=torch.bool)

    def over(self, area: Area) -> Cover:
        """FULL everywhere."""
        return Cover(area.alive, area.anywhere)

    def __repr__(self) -> str:
        return "full"


@dataclass(frozen=True)
class Causal(Mask):
    """A query reads its own position and those before it."""

    @property
    def relative(self) -> bool:
        """It knows the distance alone."""
        return True

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is not later than the query."""
        return kv_pos <= q_pos

    def over(self, area: Area) -> Cover:
        """The last query sees most, the first least."""
        return Cover(area.kv_from < area.q_to, area.kv_to <= area.q_from + 1)

    def narrow(self, area: Area) -> Area:
        """No key after the last query, no query before the first key."""
        return Area(
            area.q_from.maximum(area.kv_from), area.q_to, area.kv_from, area.kv_to.minimum(area.q_to)
        )

    def __repr__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class Window(Mask):
    """A query reads its own position, the `size - 1` before it, and all after it."""

    size: int

    @property
    def relative(self) -> bool:
        """It knows the distance alone."""
        return True

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is fewer than `size` positions before the query."""
        return q_pos - kv_pos < self.size

    def over(self, area: Area) -> Cover:
        """The first query and the last key are nearest, the last query and the first key farthest."""
        nearest, farthest = area.q_from - (area.kv_to - 1), (area.q_to - 1) - area.kv_from
        return Cover(nearest < self.size, farthest < self.size)

    def narrow(self, area: Area) -> Area:
        """No key too far before the first query, no query too far after the last key."""
        return Area(
            area.q_from,
            area.q_to.minimum(area.kv_to - 1 + self.size),
            area.kv_from.maximum(area.q_from - self.size + 1),
            area.kv_to,
        )

    def __repr__(self) -> str:
        return f"window({self.size})"


@dataclass(frozen=True)
class First(Mask):
    """Every query reads the first `size` keys."""

    size: int

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True for the first keys."""
        return kv_pos < self.size

    def over(self, area: Area) -> Cover:
        """The first key is kept, or the last too."""
        return Cover(area.kv_from < self.size, area.kv_to <= self.size)

    def narrow(self, area: Area) -> Area:
        """No key after the first ones."""
        return area._replace(kv_to=area.kv_to.clamp(max=self.size))

    def __repr__(self) -> str:
        return f"first({self.size})"


full = Full()
causal = Causal()


def window(size: int) -> Window:
    """Keep keys fewer than `size` positions before the query, its own counted; with `causal`, the band of `size` keys.

    Alone it still sees the future: `causal & window(size)` does not.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.
    """
    return Window(_counted("window", size))


def first(size: int) -> First:
    """Keep the first `size` keys, in tokens, for every query.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.
    """
    return First(_counted("first", size))


def _counted(name: str, size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise OptionError(
            where=f"masks.{name}",
            what=f"it counts positions, so it is a whole number from 1 upwards; got {size!r}",
            fix=f"masks.{name}(1)",
        )
    return size
