"""What positions are: something that turns queries and keys by where they stand."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.errors import DtypeError, ShapeError
from attnkit.shapes import type_of

Vectors = Float[Tensor, "*heads len head_dim"]
Places = Int[Tensor, "*samples len"]


class Positions(ABC):
    """Turns vectors by their positions. A rule calls it on its query and on its key, never on its value."""

    @abstractmethod
    def rotate(self, x: Vectors, positions: Places) -> Vectors:
        """The vectors `x` as they are at `positions`.

        Args:
            x: `*batch heads len head_dim`.
            positions: whole numbers (len,), or `*batch len` where samples stand at different positions.

        Returns:
            The turned vectors, in the shape and dtype of `x`.
        """


def numbered(x: Tensor, start: int) -> Places:
    """The positions (len,) of vectors `*batch heads len width` that stand one after another from `start` on."""
    return torch.arange(start, start + x.shape[-2], device=x.device)


def check_positions(where: str, x: Tensor, positions: Tensor) -> None:
    """Refuse `positions` that are not one whole number for each vector of `x`.

    Raises:
        DtypeError: `positions` are no whole numbers, or `x` holds no floats.
        ShapeError: there are not as many as `x` has vectors, or `x` has no axis of heads.
    """
    if not isinstance(positions, Tensor) or positions.dtype not in (torch.int32, torch.int64):
        raise DtypeError(
            where=where,
            what=f"positions are whole numbers of 32 or 64 bits, in tokens; got {type_of(positions)}",
            fix="torch.as_tensor(positions).long(); for positions closer together than 1, scaling=Linear(factor)",
        )
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise DtypeError(
            where=where,
            what=f"x must be a tensor of floats (*batch, heads, len, head_dim); got {type_of(x)}",
            fix="turn query and key; token ids go through torch.nn.Embedding and a projection first",
        )
    if x.dim() < 3:
        raise ShapeError(
            where=where,
            what=f"x {tuple(x.shape)} has no axis of heads; it is (*batch, heads, len, head_dim)",
            fix=f"one head is x[{', '.join(['None'] * (3 - x.dim()))}]",
        )
    if tuple(positions.shape) not in (tuple(x.shape[-2:-1]), (*x.shape[:-3], x.shape[-2])):
        raise ShapeError(
            where=where,
            what=f"positions {tuple(positions.shape)} for x {tuple(x.shape)}, (*batch, heads, len, head_dim)",
            fix=f"one position for each vector: ({x.shape[-2]},), or {(*x.shape[:-3], x.shape[-2])} "
            "where samples differ",
        )
