"""What is left of a mask on some tiles: a simpler mask that hides the same pairs of them.

On a tile inside one document, `causal & documents` is `causal`; far behind the first keys, `window(256) | first(4)` is
`window(256)`. What is simple can be written out once for many tiles, or need not be written out at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from attnkit.masks import And, Area, Mask, Or


@dataclass(frozen=True, eq=False)
class Judged:
    """A mask, what it says of some tiles, and the same of the two masks that it is made of.

    Attributes:
        mask: the mask.
        some: (tiles,) whether it keeps a pair.
        every: (tiles,) whether it keeps them all.
        sides: two where the mask is `&` or `|`, none elsewhere.
    """

    mask: Mask
    some: Tensor
    every: Tensor
    sides: tuple["Judged", ...]

    def left(self, tiles: Sequence[int]) -> Mask | None:
        """What is left of the mask on these tiles; None where it hides nothing."""
        chosen = list(tiles)
        if bool(self.every[chosen].all()):
            return None
        if isinstance(self.mask, And):
            one, other = (side.left(chosen) for side in self.sides)
            return other if one is None else one if other is None else one & other
        if isinstance(self.mask, Or):
            one, other = self.sides
            if not bool(one.some[chosen].any()):
                return other.left(chosen)
            if not bool(other.some[chosen].any()):
                return one.left(chosen)
        return self.mask


def judged(mask: Mask, area: Area) -> Judged:
    """`mask` on each of these areas."""
    some, every = mask.over(area)
    sides = (mask.left, mask.right) if isinstance(mask, And | Or) else ()
    shape = area.q_from.shape
    return Judged(mask, some.expand(shape), every.expand(shape), tuple(judged(side, area) for side in sides))
