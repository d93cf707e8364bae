"""Masks that are the same for every sample and know positions as numbers.

    causal: 0 <= q - k      window(n): q - k < n      first(n): k < n      strided(n): q - k is a multiple of n

A window counts the query's own position, and alone it still sees the future: the usual sliding window of n keys is
`causal & window(n)`. Peers that take `(left, right)` count neighbours: there, write left = n - 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.masks.area import Area
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

    def narrow_hidden(self, area: Area) -> Area:
        """Nothing is hidden."""
        return area.unless(True)

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

    def narrow(self, area: Area) -> Area:
        """No key after its query."""
        return area.within(near=0)

    def narrow_hidden(self, area: Area) -> Area:
        """Only keys after their query."""
        return area.within(far=-1)

    def __repr__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class Window(Mask):
    """A query reads its own position, the `size` - 1 before it, and all after it."""

    size: int

    @property
    def relative(self) -> bool:
        """It knows the distance alone."""
        return True

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is fewer than `size` positions before the query."""
        return q_pos - kv_pos < self.size

    def narrow(self, area: Area) -> Area:
        """No key too far before its query."""
        return area.within(far=self.size - 1)

    def narrow_hidden(self, area: Area) -> Area:
        """Only keys too far before their query."""
        return area.within(near=self.size)

    def __repr__(self) -> str:
        return f"window({self.size})"


@dataclass(frozen=True)
class First(Mask):
    """Every query reads the first `size` keys."""

    size: int

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True for the first keys."""
        return kv_pos < self.size

    def narrow(self, area: Area) -> Area:
        """No key after the first ones."""
        return area.within(kv_to=self.size)

    def narrow_hidden(self, area: Area) -> Area:
        """Only keys after the first ones."""
        return area.within(kv_from=self.size)

    def __repr__(self) -> str:
        return f"first({self.size})"


@dataclass(frozen=True)
class Strided(Mask):
    """A query reads its own position and every `stride`-th from there, before it and after it."""

    stride: int

    @property
    def relative(self) -> bool:
        """It knows the distance alone."""
        return True

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the distance is a multiple of `stride`."""
        return (q_pos - kv_pos) % self.stride == 0

    def narrow(self, area: Area) -> Area:
        """From the first to the last distance that is a multiple."""
        area = area.tight()
        return area.within(near=area.near + -area.near % self.stride, far=area.far - area.far % self.stride)

    def narrow_hidden(self, area: Area) -> Area:
        """From the first to the last distance that is none; with a stride of 1 there is none."""
        area = area.tight()
        near, far = (bound % self.stride == 0 for bound in (area.near, area.far))
        return area.within(near=area.near + near * 1, far=area.far - far * 1).unless(self.stride == 1)

    def __repr__(self) -> str:
        return f"strided({self.stride})"


full = Full()
causal = Causal()

_WINDOW = "causal & window(1) reads only the query itself, causal & window(kv_len) is plain causal"


def window(size: int) -> Window:
    """Keep keys fewer than `size` positions before the query, its own counted; with `causal`, the band of `size` keys.

    Alone it still sees the future: `causal & window(size)` does not.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.

    Example:
        >>> (causal & window(2)).dense(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    return Window(counted("window", "size", size, fix=_WINDOW))


def first(size: int) -> First:
    """Keep the first `size` keys, in tokens, for every query: attention sinks, or tokens that everybody reads.

    Raises:
        OptionError: `size` is no whole number from 1 upwards.

    Example:
        >>> (causal & (window(1) | first(1))).dense(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    return First(counted("first", "size", size))


def strided(stride: int) -> Strided:
    """Keep keys at a distance that is a multiple of `stride`, in tokens.

    It is the second half of the Sparse Transformer's strided pattern, which is
    `causal & (window(stride) | strided(stride))`.

    Raises:
        OptionError: `stride` is no whole number from 1 upwards.

    Example:
        >>> strided(2).dense(3, 3).int().tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]

    Source: Child et al. 2019, https://arxiv.org/abs/1904.10509, section 4.3.
    """
    return Strided(counted("strided", "stride", stride))


def dilated(step: int, count: int) -> Mask:
    """Keep every `step`-th key, fewer than `step * count` positions before the query; with `causal`, `count` keys.

    It is `strided(step) & window(step * count)`, so alone it still sees the future, and `dilated(1, n)` keeps what
    `window(n)` does.

    Raises:
        OptionError: `step` or `count` is no whole number from 1 upwards.

    Example:
        >>> (causal & dilated(2, 2)).dense(5, 5).int().tolist()[-1]
        [0, 0, 1, 0, 1]

    Source: Beltagy et al. 2020, https://arxiv.org/abs/2004.05150, section 3.1.
    """
    step, count = counted("dilated", "step", step), counted("dilated", "count", count)
    return strided(step) & window(step * count)


def counted(where: str, name: str, number: object, *, fix: str = "") -> int:
    """`number` if it is a whole number from 1 upwards.

    Raises:
        OptionError: it is not.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise OptionError(
            where=f"masks.{where}",
            what=f"{name} is a whole number from 1 upwards; got {number!r}",
            fix=f"int({name}): a number of NumPy or a tensor is none of Python's"
            if hasattr(number, "__index__") and not isinstance(number, int)
            else fix or f"{name}=1, 2, 3, ...",
        )
    return number
