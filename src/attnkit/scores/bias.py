"""A bias written out: a tensor with one number for each pair of positions.

    bias(h, q, k) = tensor[..., h, q, k]

Row q is for the query at *position* q, not for the q-th query of a call. With a cache the newest query stands at the
last key and reads the last row. The `attn_mask` of PyTorch has one row for each query of its call instead: where q_len
and kv_len differ, `q_start=0` gives that reading.
"""

from dataclasses import dataclass

from torch import Tensor

from attnkit.errors import DtypeError, ShapeError
from attnkit.scores.step import Additive
from attnkit.shapes import type_of


@dataclass(frozen=True, eq=False)
class Bias(Additive):
    """A tensor of floats that is added to the scores. Gradients reach it.

    Attributes:
        tensor: `*batch heads positions positions`; rows are query positions and columns key positions, both from 0.
            An axis of 1 is the same for all, and axes in front may be left out.

    Raises:
        DtypeError: `tensor` holds no floats.
        ShapeError: `tensor` has fewer than two axes; or at the call: it does not reach to every position.

    Example:
        >>> import torch
        >>> step = Bias(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        >>> step(torch.zeros(1, 1, 2), torch.tensor([[[0]]]), torch.tensor([[1]]), torch.tensor([[0, 1]]))
        tensor([[[2., 3.]]])
    """

    tensor: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.tensor, Tensor) or not self.tensor.is_floating_point():
            raise DtypeError(
                where="Bias",
                what=f"a bias is a tensor of floats that is added to the scores; got {type_of(self.tensor)}",
                fix="a bool tensor is a mask: Rule(mask=masks.where(lambda q, k: tensor[..., q, k])); "
                "numbers become a bias by tensor.float()",
            )
        if self.tensor.dim() < 2:
            raise ShapeError(
                where="Bias",
                what=f"a bias has axes (*batch, heads, q_len, kv_len); got {tuple(self.tensor.shape)}",
                fix="one number for each head is tensor[:, None, None], one for each key tensor[None, :]",
            )

    def __repr__(self) -> str:
        return f"Bias(tensor of {tuple(self.tensor.shape)})"

    def parameters(self) -> tuple[Tensor, ...]:
        """The tensor."""
        return (self.tensor,)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """The rows and columns of these positions, `*batch heads q_len kv_len`."""
        try:
            return _picked(_picked(self.tensor, q_pos, -2), kv_pos, -1)
        except (IndexError, RuntimeError) as beyond:  # index_select raises one or the other, by the shape
            rows, columns = self.tensor.shape[-2:]
            if _inside(q_pos, rows) and _inside(kv_pos, columns):
                raise
            raise ShapeError(
                where="Bias",
                what=f"{self!r} has rows for query positions 0 to {rows - 1} and columns for key positions "
                f"0 to {columns - 1}; these are {_span(q_pos)} and {_span(kv_pos)}",
                fix="give a row for each position, (..., kv_len, kv_len); where the first row is for the first query "
                "of the call, say q_start=0",
            ) from beyond


def _picked(tensor: Tensor, places: Tensor, axis: int) -> Tensor:
    # index_select, since plain indexing would take -1 for the last row
    return tensor if tensor.shape[axis] == 1 else tensor.index_select(axis, places.flatten())


def _inside(places: Tensor, size: int) -> bool:
    return size == 1 or bool(((places >= 0) & (places < size)).all())


def _span(places: Tensor) -> str:
    return f"{places.min().item()} to {places.max().item()}"
