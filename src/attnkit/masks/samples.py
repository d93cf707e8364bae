"""Masks that differ from sample to sample: their answers have batch axes in front."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from attnkit.errors import DtypeError, OptionError
from attnkit.masks.area import Area
from attnkit.masks.mask import Mask
from attnkit.masks.plain import causal, counted, first
from attnkit.shapes import type_of, whole_numbers

_LISTED_AT_MOST = 8


@dataclass(frozen=True, eq=False)
class Lengths(Mask):
    """Each sample has its own number of keys; what comes after them is padding."""

    kv_lengths: Tensor

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes of `kv_lengths`."""
        return tuple(self.kv_lengths.shape)

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The length of one sample."""
        return Lengths(self.kv_lengths[index]) if self.batch else self

    def narrow(self, area: Area) -> Area:
        """No key of the padding."""
        return area.within(kv_to=self._ends(area))

    def narrow_hidden(self, area: Area) -> Area:
        """Only keys of the padding."""
        return area.within(kv_from=self._ends(area))

    def _ends(self, area: Area) -> Tensor:
        return self.kv_lengths.to(area.kv_from.device)[..., None].long()

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is one of its sample's first `kv_lengths`."""
        positions = (1,) * max(q_pos.dim(), kv_pos.dim())
        return kv_pos < self.kv_lengths.to(kv_pos.device).reshape((*self.kv_lengths.shape, *positions))

    def __repr__(self) -> str:
        if self.kv_lengths.numel() > _LISTED_AT_MOST:
            return f"lengths(<{' x '.join(map(str, self.kv_lengths.shape))} samples>)"
        return f"lengths({self.kv_lengths.tolist()})"


def lengths(kv_lengths: Tensor | Sequence[int]) -> Lengths:
    """Keep the first `kv_lengths` keys of each sample, in tokens; the rest is padding.

    Args:
        kv_lengths: whole numbers `*batch`; 0 means that this sample has nothing to read.

    Raises:
        DtypeError: `kv_lengths` are no whole numbers (a padding mask of bools or floats, for instance).
        OptionError: a list holds a number below 0. The numbers of a tensor are not looked at, since they may
            not be known yet (under `torch.compile`) or would have to be waited for; below 0 is then as 0.

    Example:
        >>> lengths([1, 2]).dense(1, 3).int().tolist()
        [[[1, 0, 0]], [[1, 1, 0]]]
    """
    counts = whole_numbers(kv_lengths)
    if counts is None:
        tensor = isinstance(kv_lengths, Tensor)
        given = f"{kv_lengths.dtype} {tuple(kv_lengths.shape)}" if tensor else repr(kv_lengths)
        raise DtypeError(
            where="masks.lengths",
            what=f"kv_lengths are whole numbers of tokens, one a sample; got {given}",
            fix="for padding that is 1 or True at real tokens: masks.lengths(padding.sum(-1).long()) where it comes "
            "last, masks.where(lambda q, k: padding.bool()[..., k]) wherever it is",
        )
    if not isinstance(kv_lengths, Tensor) and counts.numel() and counts.min() < 0:
        raise OptionError(
            where="masks.lengths",
            what=f"a sample has at least 0 tokens; got {int(counts.min())}",
            fix="masks.lengths([0]) hides every key of a sample",
        )
    return Lengths(counts.clone())


def prefix(size: int | Tensor | Sequence[int]) -> Mask:
    """Keep the first `size` keys for every query, and after them the past alone: a prefix language model.

    It is `causal | first(size)`, or `causal | lengths(size)` where samples have prefixes of their own.

    Args:
        size: in tokens; one whole number from 1 upwards, or whole numbers `*batch`, 0 where a sample has no prefix.

    Raises:
        OptionError: `size` is one number, and none from 1 upwards; or a list with a number below 0.
        DtypeError: `size` is neither one number nor whole numbers.

    Example:
        >>> prefix(2).dense(3, 3).int().tolist()
        [[1, 1, 0], [1, 1, 0], [1, 1, 1]]

    Source: Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.2.1.
    """
    if isinstance(size, int | float):
        return causal | first(counted("prefix", "size", size))
    counts = whole_numbers(size)
    if counts is None:
        raise DtypeError(
            where="masks.prefix",
            what=f"size is one whole number of tokens, or one a sample; got {type_of(size)}",
            fix="masks.prefix(4), or masks.prefix([4, 7]) for two samples",
        )
    return causal | lengths(size)
