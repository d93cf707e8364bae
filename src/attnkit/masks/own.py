"""A mask of the reader's own: any function of two positions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.masks.mask import Mask, instead_of
from attnkit.shapes import type_of


@dataclass(frozen=True)
class Where(Mask):
    """Keeps what a function says."""

    function: Callable[[Tensor, Tensor], Tensor]
    chosen: tuple[int, ...] = ()

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes that the function answers with for one single pair, queries and keys at position 0."""
        return () if self.chosen else tuple(self._asked(torch.tensor(0), torch.tensor(0)).shape)

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The answers for one sample."""
        return Where(self.function, tuple(index)) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What the function says, once it is known to be one bool for each pair of positions."""
        keep = self._asked(q_pos, kv_pos)
        return keep[self.chosen] if self.chosen else keep

    def _asked(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        try:
            keep = self.function(q_pos, kv_pos)
        except (RuntimeError, TypeError, IndexError) as error:
            raise OptionError(
                where="masks.where",
                what=f"{self._name} is asked for all positions at once, q_pos {tuple(q_pos.shape)} and kv_pos "
                f"{tuple(kv_pos.shape)}, and failed: {error}",
                fix=_fix(error),
            ) from error
        _check_answer(self._name, keep, torch.broadcast_shapes(q_pos.shape, kv_pos.shape))
        return keep

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))

    def __repr__(self) -> str:
        chosen = f"[{', '.join(map(str, self.chosen))}]" if self.chosen else ""
        return f"where({self._name}){chosen}"


_TENSORS = "write it with tensor operations: & | ~ and torch.where, not and, or, not, if"
_TABLE = (
    "a table needs an entry for each position: keys stand at 0 to kv_len - 1, queries from kv_len - q_len on, "
    "or from q_start where the call gives it; q_start=0 is for a table with a row a query"
)
_ARGUMENTS = (
    "it gets two arguments, q_pos and kv_pos; "
    "a mask_mod of FlexAttention, (b, h, q_idx, kv_idx), is read by converters.from_flex"
)


def _fix(error: Exception) -> str:
    if isinstance(error, IndexError):
        return _TABLE
    return _ARGUMENTS if "positional argument" in str(error) else _TENSORS


def where(keep: Callable[[Tensor, Tensor], Tensor]) -> Where:
    """A mask of your own: `keep(q_pos, kv_pos)` gives True where the query may read the key.

    Positions come as whole-number tensors that broadcast; the answer is a bool tensor of their common
    shape, with batch axes in front if samples differ. Where there are more queries than keys, the first
    queries stand before position 0, and `table[q_pos]` would read them from the table's end. Tiles know nothing of a
    function: all are PARTIAL, so what can be said with the other masks had better be.

    Raises:
        OptionError: `keep` cannot be called; or it fails when a rule asks it.
        DtypeError: it does not answer with bools.
        ShapeError: it does not answer with one for each pair of positions.

    Example:
        >>> where(lambda q, k: (q - k) % 2 == 0).dense(2, 3).int().tolist()
        [[0, 1, 0], [1, 0, 1]]
    """
    if not callable(keep):
        raise OptionError(
            where="masks.where",
            what=f"keep is a function of (q_pos, kv_pos); got {type(keep).__name__}",
            fix=instead_of(keep),
        )
    return Where(keep)


def _check_answer(name: str, keep: object, shape: torch.Size) -> None:
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
        raise DtypeError(
            where="masks.where",
            what=f"{name} must answer with a bool tensor, True keeps; it gave {type_of(keep)}",
            fix="end in a comparison such as (q - k) < 3, or in .bool()",
        )
    own = keep.shape[max(keep.dim() - len(shape), 0) :]
    if len(own) < len(shape) or any(given not in (1, size) for given, size in zip(own, shape, strict=True)):
        raise ShapeError(
            where="masks.where",
            what=f"{name} gave {tuple(keep.shape)} for positions of common shape {tuple(shape)}",
            fix="compute it from q and k element by element; batch axes go in front",
        )
